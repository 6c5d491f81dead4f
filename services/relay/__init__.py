"""The relay: connects this platform with the one above it and with those below.

Owns no table and keeps no delivery state: how far a log has come is known by the platform that receives it. Upwards it
follows the journals of this platform's services and pushes what the upstream does not hold; from below it hands pushes
to the service that they are for. Called by relays of lower platforms and by people's tools. Never opens an entry for
more than its time, never changes one, and never talks to a database.
"""
