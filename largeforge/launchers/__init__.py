"""Launchers: one file each, with a `Config`, and functions that say how training processes are started."""
