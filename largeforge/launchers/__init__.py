"""Launchers: one file each, with a `Config` and `command(config, module_args)`."""
