"""`make demo`: a real Dagster project, a broker, the bridge and the daemon, and what flows, in one terminal."""
