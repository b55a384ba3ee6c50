"""Where models come from, and which of their files are safe to load."""
