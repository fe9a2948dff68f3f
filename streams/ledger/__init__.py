"""The one place where money moves: accounts, periods, transfers and their invariants."""
