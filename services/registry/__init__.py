"""The registry: who is who. Owns divisions, platforms, source units, their weighing points, scales and verification
certificates, and the rule sets that judge.

Owns the tables `divisions`, `platforms`, `source_units`, `weighing_points`, `scales`, `verification_certificates` and
`rule_sets`, each a projection of the registry's journal. Called by people's tools, by terminals that look themselves
up, and by the weighing service, which follows its journal. It judges no weighing, and never changes what another
platform owns.
"""
