"""Definitions and checks: what a configuration, a row, a set and a result must look like.

Nothing here imports torch, TRL, transformers, MLflow or Prefect; import-linter holds that line.
"""
