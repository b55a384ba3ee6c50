"""What makes a function a stage: its key, cache, journal and progress."""
