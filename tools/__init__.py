"""Commands for what comes before and after training."""
