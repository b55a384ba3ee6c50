"""Code of the training process: TRL, guards, packing, checkpoints."""
