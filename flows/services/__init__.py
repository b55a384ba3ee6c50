"""The temporary server, local services, Prefect's API, automations and signals."""
