"""Stand-ins for trying out and for tests: a broker inside the process. Nothing here survives a stop."""
