"""Whether the registry gives back the model that was evaluated, in a fresh process."""
