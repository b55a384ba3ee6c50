"""Evaluating base, champion and challenger in the same way."""
