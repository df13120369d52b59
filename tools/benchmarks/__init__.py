"""The measurements of `tools.bench`, and `staircase`, a command of its own."""
