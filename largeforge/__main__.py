"""`python -m largeforge`: the same as the console script `largeforge`."""

import os
import sys

# `python -m` looks for modules in the working directory first, where a stray yaml.py would be imported.
if not sys.flags.safe_path and sys.path[0] == os.getcwd():  # noqa: PTH109
    del sys.path[0]

from largeforge.cli import entry

entry()
