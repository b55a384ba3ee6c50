"""Tokenising conversations, and showing what is trained."""
