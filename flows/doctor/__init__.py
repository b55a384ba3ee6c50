"""What `sft-flow doctor` examines."""
