"""Stages: one file each, with `run(config, context)`; run as `python -m largeforge.stages SPEC`."""
