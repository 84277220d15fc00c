"""Training methods: one file each, with a `Config` and `run(config, context)`."""
