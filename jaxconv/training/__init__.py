"""The train state, losses, optimizers, steps, and the feeding of batches to the devices."""
