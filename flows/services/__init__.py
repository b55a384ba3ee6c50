"""Temporary Prefect server, local services, Prefect API, notifications and signals."""
