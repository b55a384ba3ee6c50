"""Recognising, converting and repairing a row; its JSON Schema."""
