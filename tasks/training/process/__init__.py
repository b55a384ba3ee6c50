"""Inside the training process: TRL, guards, packing, checkpoints."""
