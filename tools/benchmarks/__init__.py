"""The measurements of `tools.bench`, and the command `staircase`."""
