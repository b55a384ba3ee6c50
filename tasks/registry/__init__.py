"""The MLflow store: versions, aliases, tags, the champion, and reasons to retrain."""
