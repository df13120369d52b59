"""Commands for the work before and after training."""
