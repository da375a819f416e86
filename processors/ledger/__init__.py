"""How a run unfolds: the pure state machine behind the `run_ledger` processor."""
