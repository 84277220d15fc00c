"""Take a model that was brought into `models/`: `adopt.py INCOMING MODELS DIGEST`, the manifest on standard input.

The manifest lists each file with its size and sha256. Every file is read and compared; only then is the folder renamed
to its digest, so that a model is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys


def main(incoming, models, digest, manifest):
    """Verify a folder and move it to its place; returns an exit code."""
    source, target = os.path.join(incoming, digest), os.path.join(models, digest)
    folder = source if os.path.isdir(source) else target
    wrong = [name for name, entry in manifest["files"].items() if not is_same(os.path.join(folder, name), entry)]
    if wrong:
        print(
            "%d of %d files are missing or not what they should be: %s"
            % (len(wrong), len(manifest["files"]), ", ".join(sorted(wrong)[:5])),
            file=sys.stderr,
        )
        return 1
    for name, entry in manifest["files"].items():
        path = os.path.join(folder, name)
        os.chown(path, 0, 0)
        os.chmod(path, 0o644)
        entry["mtime_ns"] = os.stat(path).st_mtime_ns
    os.chown(folder, 0, 0)
    for top, folders, _ in os.walk(folder):
        os.chmod(top, 0o755)
        for each in folders:
            os.chown(os.path.join(top, each), 0, 0)
    write(os.path.join(folder, ".manifest.json"), json.dumps(manifest))
    if folder == source:
        if os.path.isdir(target):
            shutil.rmtree(target)
        os.rename(source, target)
    return 0


def is_same(path, entry):
    """Tell whether a file is what the manifest says."""
    try:
        if os.path.islink(path) or os.path.getsize(path) != entry["size"]:
            return False
        digest = hashlib.sha256()
        with open(path, "rb") as stream:
            for piece in iter(lambda: stream.read(1 << 20), b""):
                digest.update(piece)
    except OSError:
        return False
    return digest.hexdigest() == entry["sha256"]


def write(path, text):
    """Write a file so that readers see all of it or none."""
    with open(path + ".new", "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(path + ".new", path)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:], json.load(sys.stdin)))
