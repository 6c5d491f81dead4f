"""Asks the services of a platform for what an evidence bundle holds."""
