"""Inputs that were brought to this host: verified, kept under the digest of their content, removed when unused."""

from __future__ import annotations

import glob
import os
import shutil
import time

from disk import hashes

UNUSED_S = 14 * 86400
"""Inputs that no job has used for so long are removed."""


def place(request):
    """Verify files that were brought and keep them; those that are not what was sent are removed."""
    incoming = os.path.join(request["home"], "incoming", request["key"])
    kept = os.path.join(request["home"], "inputs", request["key"])
    if os.path.isdir(kept):
        os.utime(kept)
        return {"kept": True}
    found = hashes(incoming)
    wrong = sorted(name for name in {**request["files"], **found} if found.get(name) != request["files"].get(name))
    if wrong:
        shutil.rmtree(incoming, ignore_errors=True)
        return {"kept": False, "wrong": wrong[:5]}
    os.rename(incoming, kept)
    os.utime(kept)
    return {"kept": True}


def sweep_inputs(home):
    """Remove inputs that were used last long ago."""
    for folder in glob.glob(os.path.join(home, "inputs", "*")) + glob.glob(os.path.join(home, "incoming", "*")):
        if time.time() - os.stat(folder).st_mtime > UNUSED_S:
            shutil.rmtree(folder, ignore_errors=True)
