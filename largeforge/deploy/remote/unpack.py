"""Put programs into a folder of their own on this host, unless it is there: `unpack.py FOLDER`.

Reads {NAME: TEXT} as JSON. The folder is made beside its place and renamed, so that it is there as a whole or not at
all; of two who do it at once the second finds it there and removes its own.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile


def main(folder):
    """Unpack what is on the input; returns an exit code."""
    texts = json.load(sys.stdin)
    if os.path.isdir(folder):
        return 0
    os.umask(0o022)
    top = os.path.dirname(folder)
    os.makedirs(top, exist_ok=True)
    aside = tempfile.mkdtemp(prefix=".new.", dir=top)
    try:
        for name, text in texts.items():
            write(os.path.join(aside, name), text)
        os.chmod(aside, 0o755)
        sync(aside)
        os.rename(aside, folder)
        sync(top)
    except OSError:
        if not os.path.isdir(folder):
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return 0


def write(path, text):
    """Write a file to the disk."""
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def sync(folder):
    """Write the names in a folder to the disk: what is there under its name is whole, also after the power fails."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
