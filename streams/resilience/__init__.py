"""Pure parts that keep a system standing: backoff now; circuit breaker and leases beside it."""
