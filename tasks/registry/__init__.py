"""The MLflow store: versions, aliases, tags, the champion and its history."""
