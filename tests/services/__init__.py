"""What a team runs the flow against: PostgreSQL, an S3 store, a Prefect and an MLflow server."""
