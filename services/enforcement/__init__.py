"""Enforcement: what platforms issue to platforms below them, and what is answered. Notices with acknowledgement and
duty checks with a deadline, together called directives.

Owns the tables `directives`, `directive_recipients`, `directive_withdrawals`, `directive_responses` and
`inbox_changes`, each but the last a projection of the enforcement journal. Called by people's tools and screens; calls
the registry for the platforms below. It carries nothing itself: directives go down as addressed entries, answers come
up with the log.
"""
