"""Messages that cross Kafka, and nothing else: import them from the modules of their bounded context.

This package sits below every other one and imports only pydantic and the standard library.
"""
