"""The contract-test kit: for a given command in a given state, the right event with the right data."""
