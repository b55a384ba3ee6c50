"""The training process: TRL, guards, packing, checkpoints."""
