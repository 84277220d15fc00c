"""What the path of a dataset says by itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""Suffixes of data files."""
COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
"""Suffixes that may follow those of data files, except Parquet's."""
NOT_ROWS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""Files that `datasets` writes beside rows."""

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::[^:]+)*://")
_PATTERN = re.compile(r"[*?[]")
_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/@]+@")


@dataclass(frozen=True)
class DataFile:
    """One local file with rows."""

    path: Path
    label: str
    """What it is called: a whole path or address, or a part of it that tells some files apart (`labels`)."""
    address: str = ""
    """Where it was copied from, if it was."""

    def told(self, text: str) -> str:
        """Return a message about the file with the place that the user knows."""
        return text.replace(str(self.path), self.address) if self.address else text


def is_remote(path: str) -> bool:
    """Tell whether a path is the address of something elsewhere, such as `s3://bucket/rows.jsonl`."""
    return bool(_REMOTE.match(path)) and not path.startswith("file://")


def is_pattern(path: str) -> bool:
    """Tell whether a path has wildcards; a file may still be called so."""
    return bool(_PATTERN.search(path))


def within(path: str, pattern: str) -> str:
    """Return the part of a path that the wildcards of a pattern have found."""
    fixed = _PATTERN.split(pattern, maxsplit=1)[0].rpartition("/")[0]
    return path.strip("/").removeprefix(fixed.strip("/")).strip("/")


def has_password(path: str) -> bool:
    """Tell whether an address carries a user's name or password; `@` later in it is a revision."""
    return bool(_PASSWORD.match(path)) and not path.startswith("hf://")


def may_have_rows(path: str) -> bool:
    """Tell whether a file found in a folder, by its path within it, is one with rows; hidden ones are not."""
    parts = PurePosixPath(path).parts
    if any(part.startswith((".", "_")) for part in parts) or not parts or parts[-1] in NOT_ROWS:
        return False
    name = parts[-1].lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return name.endswith(SUFFIXES)


def labels(paths: Sequence[str]) -> list[str]:
    """Return a short name for each of some different paths: the last part, and as many before as tell them apart."""
    parts = [[part for part in path.split("/") if part] for path in paths]
    lengths = [1] * len(parts)
    while True:
        names = ["/".join(part[-length:]) for part, length in zip(parts, lengths, strict=True)]
        seen: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            seen.setdefault(name, []).append(index)
        longer = [i for same in seen.values() if len(same) > 1 for i in same if lengths[i] < len(parts[i])]
        if not longer:
            return names
        for index in longer:
            lengths[index] += 1
