"""Trials of settings, and their results."""
