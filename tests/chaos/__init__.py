"""Payouts under kill -9, freezes, a bank that dies and clocks that are wrong."""
