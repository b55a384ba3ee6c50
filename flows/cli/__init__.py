"""The command line: one file a command, its words beside it."""
