"""report.json, the three pages, and what Prefect shows of a run."""
