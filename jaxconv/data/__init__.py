"""Data: from files on disk to augmented batches."""
