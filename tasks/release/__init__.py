"""Model card, files, promotion, clean-up and export of a version."""
