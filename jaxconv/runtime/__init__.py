"""The process: its machine, devices, signals, seeds, files, command line and errors."""
