"""Flows, and the command line that starts them."""
