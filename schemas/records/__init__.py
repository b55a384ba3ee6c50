"""What stages hand each other: references, stages, events, the decision."""
