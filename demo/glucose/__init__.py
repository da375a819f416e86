"""A Dagster project: glucose readings from an API to marts. It runs in Dagster's own environment, not in dagtel's."""
