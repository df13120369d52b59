"""The train state, losses, optimizers, steps, and batches on their way to the devices."""
