"""Measurements of the product: run with `python -m benchmarks.<name>` from the project's folder."""
