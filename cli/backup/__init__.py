"""Backups of a platform with an embedded database server: made while it runs, checked, and restored elsewhere.

A backup is a directory: `backup.json` says what it holds, `cluster/` is what `pg_basebackup` made of all databases at
one moment, with a manifest of every file, `evidence/` the bytes that these name, or their list. Servers of your own are
backed up with their own tools (docs/operate/backup.md).
"""
