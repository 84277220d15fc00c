"""A recipe trains on a mixture of an S3 bucket, a dataset of the hub and a compressed table, each read once."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e import stores
from tests.e2e.test_training import SMALL, rows

if TYPE_CHECKING:
    from tests.e2e.workspace import Workspace

MIX = """\
dataset:
  mix:
    bucket: {path: "s3://data/rows/*.jsonl", weight: 2}
    hub: {path: "hf://datasets/acme/rows", weight: 1}
    table: {path: table.csv.gz, weight: 1, columns: {prompt: question, response: reply}}
  mix_rows: 200
"""
CARD = b"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/a.jsonl\n---\n"


@pytest.fixture
def bucket() -> Iterator[stores.S3]:
    with stores.s3() as found:
        lines = rows(100).splitlines(keepends=True)
        found.make("data")
        found.put("data/rows/one.jsonl", "".join(lines[:60]).encode())
        found.put("data/rows/two.jsonl", "".join(lines[60:]).encode())
        found.put("data/rows/notes.txt", b"none of the rows")
        yield found


@pytest.fixture
def hub() -> Iterator[str]:
    files = {"README.md": CARD, "data/a.jsonl": rows(40).replace("largest", "greatest").encode(), "data/b.jsonl": b"{"}
    with stores.hub("acme/rows", files) as address:
        yield address


def run(workspace: Workspace, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    own = {"XDG_CACHE_HOME": str(workspace.path / "cache"), "HF_HOME": str(workspace.path / "hub")}
    online = {"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0"}
    return subprocess.run(
        workspace.command(*words), cwd=workspace.path, env={**os.environ, **own, **online, **variables},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def copies(workspace: Workspace) -> dict[str, int]:
    """Return the names of the local copies, with the time when each was made."""
    folder = workspace.path / "cache" / "largeforge" / "data"
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*/[!.]*")}


def test_a_mixture_of_remote_data_is_planned_prepared_and_found_again(
    workspace: Workspace, bucket: stores.S3, hub: str
) -> None:
    start, _, end = SMALL.partition("dataset:\n")
    workspace.write(
        "recipes/small.yaml", start + MIX + end.partition("0.1\n")[2].replace("max_steps: 60", "max_steps: 2")
    )
    with gzip.open(workspace.path / "table.csv.gz", "wt") as table:
        table.write("question,reply\n" + "".join(f'"biggest of {n}, {n + 1}?",It is {n + 1}.\n' for n in range(30)))
    words, known = ("+recipe=small", "~gates", "~evaluation"), {**bucket.environment, "HF_ENDPOINT": hub}

    plan = run(workspace, *words, "mode=plan", **known)
    assert plan.returncode == 0, plan.stdout + plan.stderr
    assert "is not here yet; its rows are counted once it has been downloaded" in " ".join(plan.stdout.split())
    assert not copies(workspace)

    result = run(workspace, *words, **known)
    assert result.returncode == 0, result.stdout + result.stderr
    made = copies(workspace)
    assert made.keys() == {"one.jsonl", "two.jsonl", "a.jsonl"}
    folder = workspace.run_dir("small")
    train = [json.loads(line) for line in (folder / "prepare/out/train.jsonl").read_text().splitlines()]
    assert Counter(row["source"].partition("/")[0] for row in train) == {"bucket": 100, "hub": 50, "table": 50}
    assert {row["source"].partition(":")[0] for row in train if row["source"].startswith("b")} == {
        "bucket/one.jsonl", "bucket/two.jsonl",
    }  # fmt: skip
    lock = json.loads((folder / "lock.json").read_text())
    assert lock["datasets"]["hf://datasets/acme/rows"] == stores.COMMIT
    resolved = lock["resolved"]["stages"]["prepare"]["datasets"]
    assert resolved["s3://data/rows/*.jsonl"]["files"] == 2
    assert not secrets_in(folder, "a-secret-key")

    again = run(workspace, *words, **known)
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(list((workspace.path / "runs/small").iterdir())) == 1
    offline = run(workspace, *words, "mode=plan", HF_HUB_OFFLINE="1", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert lock["digest"][:8] in offline.stdout, offline.stdout + offline.stderr
    bucket.put("data/rows/two.jsonl", rows(130).encode())
    shutil.rmtree(workspace.path / "cache/largeforge/remote_versions")  # an answer counts for some seconds
    changed = run(workspace, *words, "mode=plan", **known)
    assert lock["digest"][:8] not in changed.stdout, changed.stdout + changed.stderr
    assert copies(workspace) == made


def test_an_address_without_data_is_one_message(workspace: Workspace, bucket: stores.S3) -> None:
    workspace.write("recipes/small.yaml", SMALL)
    result = run(workspace, "+recipe=small", "dataset.path=s3://data/none.jsonl", **bucket.environment)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "s3://data/none.jsonl does not exist" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def secrets_in(folder: Path, secret: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
