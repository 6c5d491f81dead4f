"""The journal: an append-only, provable log of every change, mounted by each service.

Owns the tables `journal_*` of the service's database. A service writes its own log through `LogWriter`, receives the
logs of lower platforms through `Receiver`, and serves both through `JournalServicer`. Knows no business word: what an
entry means is told by the `Projection` that the service passes in.
"""
