"""Checks of `sft-flow doctor`."""
