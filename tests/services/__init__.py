"""A real Apache Kafka and a real PostgreSQL for tests: found, started, broken on purpose, and taken away again."""
