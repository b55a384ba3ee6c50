"""What is left in the work directory, and what of it can be removed."""
