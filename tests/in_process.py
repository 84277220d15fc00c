"""The command line in the process of the tests: as a user meets it, but for the half second that Python starts."""

from __future__ import annotations

import io
import os
import subprocess
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

from largeforge.cli import main


def largeforge(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `largeforge WORDS` to its end."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(cwd or Path.cwd()), mock.patch.dict(os.environ, environment), redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(list(words))
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
