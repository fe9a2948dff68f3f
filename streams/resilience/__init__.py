"""Pure parts that keep a system standing: backoff and circuit breaker."""
