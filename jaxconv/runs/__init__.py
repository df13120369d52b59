"""The run directory: settings, history, checkpoints and figures."""
