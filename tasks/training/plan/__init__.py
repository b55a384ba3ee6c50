"""What is decided before a training starts, from facts about machine, model and rows."""
