"""What Payday costs, measured against the same work without it. `make bench`."""
