"""Telemetry: metrics today, in one place. Known to the composition root alone, through the kit's observer protocols."""
