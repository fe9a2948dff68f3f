"""FastStream adapters of the kit: the steps of intake as middlewares, and the options of a subscriber."""
