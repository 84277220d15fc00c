"""What a stage reads, and how the host sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from largeforge.onhosts import inputs

HOME, JOB = "/state/anna", "/state/anna/jobs/one"


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    for name in ("prepare/out/train.jsonl", "model/config.json", "images/a.png"):
        path = tmp_path / "runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "runs/lock.json").write_text("{}")
    (tmp_path / "runs/prepare/manifest.json").write_text('{"metrics": {}}')
    top = str(tmp_path / "runs")
    return {
        "stage": "train", "kind": "train", "lock": "l", "recorded": {},
        "config": {
            "reference": f"path:{top}/model", "images": [f"{top}/images/a.png"], "teacher": "hub:org/model",
            "python": f"{top}/images/a.png", "text": "/not/there", "seed": 1,
        },
        "inputs": {"data": f"{top}/prepare/out"}, "out": f"{top}/train/out", "work": f"{top}/train/work",
    }  # fmt: skip


def bundle(spec: dict[str, Any]) -> inputs.Bundle:
    return inputs.bundle(spec, lambda reference: reference.removeprefix("path:"))


def test_paths_are_those_of_the_host(spec: dict[str, Any]) -> None:
    found = bundle(spec)
    there = found.stage(spec, HOME, JOB)
    keys = {Path(path).name: one.key for path, one in found.by_path.items()}
    config = there["config"]
    assert config["reference"] == f"path:{HOME}/inputs/{keys['model']}"
    assert config["images"] == [f"{HOME}/inputs/{keys['a.png']}/a.png"]
    assert {key: config[key] for key in ("teacher", "python", "text", "seed")} == {
        key: spec["config"][key] for key in ("teacher", "python", "text", "seed")
    }
    assert there["inputs"] == {"data": f"{JOB}/inputs/0/out"}
    assert (there["out"], there["work"]) == (f"{JOB}/stage/out", f"{JOB}/stage/work")


def test_what_lies_around_a_stage_is_there_as_in_a_run_directory(spec: dict[str, Any]) -> None:
    found = bundle(spec)
    files, links = found.around(spec, HOME)
    assert files == {"lock.json": "{}", "inputs/0/manifest.json": '{"metrics": {}}'}
    assert links == {"inputs/0/out": found.by_path[spec["inputs"]["data"]].at(HOME)}


def test_what_a_host_says_is_said_with_names_of_this_machine(spec: dict[str, Any]) -> None:
    found = bundle(spec)
    there = found.stage(spec, HOME, JOB)["config"]
    said = json.dumps({"model": there["reference"], "image": there["images"][0]})
    assert json.loads(found.at_home(said, HOME)) == {
        "model": spec["config"]["reference"], "image": spec["config"]["images"][0],
    }  # fmt: skip


def test_the_same_content_is_one_input_wherever_it_lies(spec: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/config.json").write_text("model/config.json")
    spec["config"]["other"] = str(tmp_path / "copy")
    assert len(bundle(spec).inputs) == 3
    (tmp_path / "copy/config.json").write_text("another")
    assert len(bundle(spec).inputs) == 4
