"""The slice that knows tasks and who has to do them."""
