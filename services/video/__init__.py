"""Video: evidence. Photos, clips and documents that prove a weighing or an acceptance, sealed once and kept.

Owns the tables `evidence`, `evidence_subjects`, `custody_events`, `legal_holds`, `retention_extensions` and
`cameras`, all projections of the video journal, and what is this platform's own business: `objects`, `uploads`,
`source_units`, `suspected_weighings`, `weighing_positions`, `orphans`, `store_tests`, `scrub_state`. The bytes are
objects in the evidence store (S3). Called by terminals, people's tools and the relay; calls the registry for source
units and follows the weighing service's journals. It never changes evidence, and decides by itself what may be
deleted.
"""
