"""Plumbing that every service shares: errors, RPC server and client, settings, database, logs, clock, life cycle.

It knows no service and no business word. Something enters it only when two services use it today.
"""
