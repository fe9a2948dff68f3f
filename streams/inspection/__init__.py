"""Looks at the whole app from outside: lag, what is settled, account statements, the audit. Changes nothing.

Invariant: everything here gets explicit arguments and only reads, so that it can be asked at any time, beside a running
app or without one.
"""
