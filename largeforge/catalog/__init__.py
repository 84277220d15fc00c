"""The registry as people and programs look at it: the words of `models` and `trace`, tables, JSON, comparison.

What changes a registry is in `largeforge.registry`; this only asks it and shows what it says.
"""
