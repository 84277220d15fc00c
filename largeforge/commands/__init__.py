"""Commands beside recipes: `python -m largeforge NAME …`.

One file each; the file is the command's name, with `_` for `-`. Its docstring's first line is the
help; `add_arguments(parser)` and `run(arguments) -> int` (the exit code) do the rest. Heavy imports
stand inside `run`. Only commands and `cli` print.
"""
