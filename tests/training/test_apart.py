"""Processes of hosts that share no storage, each with a folder of its own, over gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import free_port

PROGRAM = """
import os, sys
from pathlib import Path
import torch.distributed as dist
from largeforge.training import apart
dist.init_process_group("gloo")
rank, work = dist.get_rank(), Path(sys.argv[1])
apart.CHUNK_BYTES = 1000
saving = work / "checkpoints/.saving"
(saving / "checkpoint-5/shards").mkdir(parents=True, exist_ok=True)
(saving / f"checkpoint-5/shards/{rank}").write_bytes(bytes([rank]) * (2500 * rank))
apart.gather(saving, work=work)
if rank == 0:
    os.rename(saving / "checkpoint-5", work / "checkpoints/checkpoint-5")
dist.barrier()
kept = work / "checkpoints"
print(sorted(path.name for path in kept.rglob("*") if path.is_file()), flush=True)
apart.bring(work / "checkpoints/checkpoint-5", work=work)
print({path.name: (path.stat().st_size, set(path.read_bytes())) for path in sorted(kept.rglob("*")) if path.is_file()})
dist.barrier()
"""
WHOLE = "{'0': (0, set()), '1': (2500, {1}), '2': (5000, {2})}"


@pytest.mark.parametrize(
    ("folders", "after_gathering"),
    [
        ("aab", [["0", "1", "2"], ["0", "1", "2"], []]),
        ("aaa", [["0", "1", "2"]] * 3),
    ],
)
def test_a_checkpoint_is_whole_on_the_first_host_and_brought_to_those_that_do_not_see_it(
    tmp_path: Path, folders: str, after_gathering: list[list[str]]
) -> None:
    port = free_port()
    running = []
    for rank, name in enumerate(folders):
        (tmp_path / name).mkdir(exist_ok=True)
        given = {"RANK": rank, "WORLD_SIZE": 3, "MASTER_PORT": port, "LOCAL_RANK": rank % 2, "GLOO_SOCKET_IFNAME": "lo"}
        environ = {**os.environ, "MASTER_ADDR": "127.0.0.1", **{key: str(value) for key, value in given.items()}}
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / name)]
        running.append(subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=120)[0].splitlines() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert [lines[0] for lines in said] == [str(names) for names in after_gathering]
    assert [lines[1] for lines in said] == [WHOLE] * 3
