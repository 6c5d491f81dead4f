"""The weighing service: what trucks weighed at source units, how it was judged, and the totals of each day.

Owns the tables `weighings`, `weighing_conflicts`, `day_totals` and its copy of the registry's directory
(`directory_*`).
Called by terminals, integrators, the platform's relay and tools. Never changes or deletes a weighing, never calls
another
service to answer a record: it follows the registry's journal instead.
"""
