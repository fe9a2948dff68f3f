"""The way in: records are decoded, handled in one transaction per batch, or parked whole.

Knows nothing of FastStream; `streams.middleware` adapts it.
"""
