"""report.json, the pages of a run, of data and of the history, and what Prefect shows."""
