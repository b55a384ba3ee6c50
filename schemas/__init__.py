"""Definitions and checks: what a configuration, a row, a dataset and a result must look like.

Imports no torch, TRL, transformers, MLflow or Prefect; import-linter checks it.
"""
