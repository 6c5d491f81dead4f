"""The `zhichao` command: starts, fills, inspects and checks platforms.

Each command is a module of its own and is imported only when it is called (see `cli.main`).
"""
