"""Planning, starting, watching and resuming a training."""
