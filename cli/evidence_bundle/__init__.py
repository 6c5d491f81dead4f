"""The evidence bundle: one zip that proves a weighing and its evidence without any platform (docs/evidence-bundle.md).

What is here reads, checks and shows bundles, and says how they are laid out. It shares no code with the services.
"""
