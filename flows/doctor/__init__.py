"""The checks of `sft-flow doctor`."""
