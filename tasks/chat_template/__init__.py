"""Set-up of a chat template, its variants and its contract."""
