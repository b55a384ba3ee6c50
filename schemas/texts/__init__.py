"""Detectors on text: mojibake, secrets, personal numbers, markers, language."""
