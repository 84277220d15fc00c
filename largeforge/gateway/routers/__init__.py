"""Routers: one file each, with a `Config` and `build(config, topology)`."""
