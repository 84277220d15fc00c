"""Where runs can be tracked: one file each, chosen by `tracking=NAME`.

A module has `Config`, `destination(config, about, place) -> str` (what tells one target from
another, without secrets) and `connect(config, about, place) -> Tracker` (`recipe.tracking`).
"""
