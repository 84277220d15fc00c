"""`python -m largeforge`: the same as the console script `largeforge`."""

import os
import signal
import sys

# `python -m` looks for modules in the working directory first, where a stray yaml.py would be imported.
if not sys.flags.safe_path and sys.path[0] == os.getcwd():  # noqa: PTH109
    del sys.path[0]

# Ctrl-C while modules are imported ends the process without a traceback; `nohup` and the like go on ignoring it.
if interruptible := signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from largeforge.cli import entry

if interruptible:
    signal.signal(signal.SIGINT, signal.default_int_handler)
entry()
