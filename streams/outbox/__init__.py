"""The way out: events are written with the change that caused them and published by the relay afterwards."""
