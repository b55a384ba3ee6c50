"""One row at a time: checked, measured, signed."""
