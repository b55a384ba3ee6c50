"""The pages of rules and settings, written from the definitions."""
