"""The slice that pays balances out: runs, payouts, the bank behind a small protocol."""
