"""What holds on SQLite and on PostgreSQL alike, and what only a server with real concurrency can show."""
