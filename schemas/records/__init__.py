"""Records that stages pass on: references, stages, events, the decision."""
