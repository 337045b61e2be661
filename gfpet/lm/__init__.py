"""Everything done with one language model: its family, loading, modules, scoring, training, hooks, activations."""
