"""Commands of `sft-flow`, one file each."""
