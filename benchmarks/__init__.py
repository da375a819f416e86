"""How fast the road is, always as a ratio to the bare loop of the same run. `make bench`; see RESULTS.md."""
