"""Benchmarks: one file each, with `SUMMARY`, `add_arguments(parser)` and `run(options) -> int`."""
