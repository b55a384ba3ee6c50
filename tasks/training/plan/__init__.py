"""Planning a training from machine, model and rows, before it starts."""
