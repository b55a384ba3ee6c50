"""Checking in a new process that the registry returns the evaluated model."""
