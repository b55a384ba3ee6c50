"""Setting up a chat template, and checking that training and inference agree."""
