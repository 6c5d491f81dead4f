"""Randomness that repeats: every part of a simulation draws from a stream of its own name, so none disturbs another."""

from random import Random


def seeded_random(*names: object) -> Random:
    """Make the stream of the given name, for example `seeded_random("terminal", seed, scale_id)`.

    Strings seed through SHA-512, so streams of similar names share nothing, on every machine and Python version.
    """
    return Random("/".join(map(str, names)))  # noqa: S311 - a simulation keeps no secret
