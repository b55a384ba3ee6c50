"""A row: recognised, converted, repaired, described as JSON Schema."""
