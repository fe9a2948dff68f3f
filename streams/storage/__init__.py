"""The database: engines, transactions, bulk statements, migrations. Knows nothing of messages or money."""
