"""Measurements of speed and memory, each beside a yardstick in the same run: `python -m bench [NAME …]`.

Figures are ratios first: the machines that run this are small and noisy. docs/benchmarks.md holds the figures of the
last run.
"""
