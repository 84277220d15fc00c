"""Checkpoints of processes on hosts that share no storage: whole on the first host, brought to the others to be read.

Which hosts see the first one's files is found out, not configured. Parts that others wrote go to the first host, which
seals them with its own, so that one folder is all that a training continues from, on whichever other hosts.
They travel between the first processes of the hosts, over gloo.
"""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from largeforge.training import distributed

if TYPE_CHECKING:
    from pathlib import Path

CHUNK_BYTES = 16 << 20
LONGEST = timedelta(hours=12)
"""Those without files to carry wait so long for those who have."""


def gather(folder: Path, *, work: Path) -> None:
    """Bring what others wrote into a folder to the first host; called in every process, returns when all is there."""
    distributed.wait_for_all()  # until every process has written
    ranks = _apart(work)
    if not ranks:
        return
    own = _files(folder) if _rank() in ranks else []
    for rank, files in zip(ranks, _said_by(ranks, own), strict=True):
        for name, size in files:
            _carry(folder / name, size, source=rank, target=0)
    if _rank() in ranks:
        shutil.rmtree(folder)
    _meet()


def bring(folder: Path, *, work: Path) -> None:
    """Bring a folder of the first host to the others, which forget all that is beside it; called in every process."""
    ranks = _apart(work)
    if not ranks:
        return
    if _rank() in ranks:
        shutil.rmtree(folder.parent, ignore_errors=True)
    (files,) = _said_by([0], _files(folder) if distributed.is_first() else [])
    for rank in ranks:
        for name, size in files:
            _carry(folder / name, size, source=0, target=rank)
    _meet()


@cache
def _apart(work: Path) -> list[int]:
    """Return the first process of each host that does not see the first host's files."""
    if not distributed.are_several():
        return []
    token = work / f".seen-{distributed.from_first(uuid4().hex)}"
    if distributed.is_first():
        token.touch()
    _meet()
    leads = os.environ["LOCAL_RANK"] == "0" and not distributed.is_first()
    found = _said_by(range(int(os.environ["WORLD_SIZE"])), leads and not token.exists())
    if distributed.is_first():
        token.unlink()
    return [rank for rank, is_apart in enumerate(found) if is_apart]


def _files(folder: Path) -> list[tuple[str, int]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]


def _carry(path: Path, size: int, *, source: int, target: int) -> None:
    """Carry one file from one process to another; the others do nothing."""
    if _rank() not in (source, target):
        return
    import torch
    import torch.distributed as dist

    buffer = torch.empty(min(size, CHUNK_BYTES), dtype=torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("rb" if _rank() == source else "wb") as stream:
        for start in range(0, size, CHUNK_BYTES):
            part = buffer[: min(CHUNK_BYTES, size - start)]
            if _rank() == source:
                part.numpy()[:] = memoryview(stream.read(len(part)))
                dist.send(part, target, group=_group())
            else:
                dist.recv(part, source, group=_group())
                stream.write(part.numpy())


def _said_by(ranks: Any, value: Any) -> list[Any]:
    """Return what some processes say, in all."""
    import torch.distributed as dist

    values: list[Any] = [None] * int(os.environ["WORLD_SIZE"])
    dist.all_gather_object(values, value, group=_group())
    return [values[rank] for rank in ranks]


def _meet() -> None:
    import torch.distributed as dist

    dist.barrier(group=_group())


@cache
def _group() -> Any:
    import torch.distributed as dist

    return dist.new_group(backend="gloo", timeout=LONGEST)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))
