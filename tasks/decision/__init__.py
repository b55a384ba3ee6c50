"""Promotion gates, intervals and the judging language model."""
