"""What is in a data set, and what would invalidate a study on it."""
