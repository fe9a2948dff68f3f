"""Payday's streams: the reliability kit and the app's slices. `app.py` wires them; imports run one way."""
