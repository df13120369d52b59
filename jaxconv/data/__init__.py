"""From files on disk to augmented batches."""
