"""gfpet: adapt a large language model to a task without ever computing a gradient of it."""

__version__ = "0.1.0"
