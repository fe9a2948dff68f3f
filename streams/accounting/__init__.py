"""The slice that knows prices, postings and periods."""
