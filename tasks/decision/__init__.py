"""Promotion gates, intervals, and the language model as a judge."""
