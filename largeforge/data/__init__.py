"""Datasets: readers, formats, checks, splits."""
