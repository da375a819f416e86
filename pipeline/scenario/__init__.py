"""Scenarios: a configuration on a clock of its own, with nothing that is sent (docs/testing-alerts.md)."""
