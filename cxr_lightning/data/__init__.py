"""Data sets: from files on disk to validated study tables, pixels and batches."""
