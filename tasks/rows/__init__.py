"""Rows checked and measured one at a time."""
