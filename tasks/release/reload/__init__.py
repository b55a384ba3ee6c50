"""Whether the registry returns the model that was evaluated, checked in a new process."""
