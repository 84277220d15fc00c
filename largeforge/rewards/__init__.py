"""Reward functions: one file each, with a `Config` and `score(config, batch)`."""
