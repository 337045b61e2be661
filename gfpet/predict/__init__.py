"""Memory foretold: the real steps of every method, run on sizes alone."""
