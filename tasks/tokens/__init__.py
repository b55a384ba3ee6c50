"""Conversations to token ids and labels, and back to sight."""
