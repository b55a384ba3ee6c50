"""Generators of docs/data-rules.md and docs/configuration.md."""
