"""Benchmarks: run them in the project folder with `python -m benchmarks.<name>`."""
