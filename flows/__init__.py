"""Flows that call tasks, and the command line that calls flows."""
