"""What a process is: its machine, devices, signals, seeds, files, command line and errors."""
