"""Where a model comes from, and what its files may do."""
