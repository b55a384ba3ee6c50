"""Trials of settings, and what they found."""
