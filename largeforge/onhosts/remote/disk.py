"""Files: JSON that is read or nothing, text that is written whole, and the hashes of a folder."""

from __future__ import annotations

import hashlib
import json
import os


def loaded(path):
    """Return what a JSON file says, nothing where there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def write(path, text):
    """Write a file so that readers see all of it or none, also after the power fails."""
    aside = "%s.new" % path
    with open(aside, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(aside, path)


def hashes(folder):
    """Return sha256 and size of each file below a folder."""
    found = {}
    for top, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(top, name)
            digest = hashlib.sha256()
            with open(path, "rb") as stream:
                for part in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(part)
            found[os.path.relpath(path, folder)] = {"sha256": digest.hexdigest(), "size": os.path.getsize(path)}
    return found
