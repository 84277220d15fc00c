"""The register stage: from finished artifacts of a run to a version with its lineage."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from largeforge import artifacts
from largeforge.errors import GateError, StageError
from largeforge.events import Events
from largeforge.recipe import model_ref
from largeforge.recipe.schema import Registry
from largeforge.registry import GateResult, ModelRegistry, ModelVersion
from largeforge.stages import register
from largeforge.stages.context import Context

if TYPE_CHECKING:
    from pathlib import Path

GATE = {"metric": "exact_match", "condition": ">= 0.85", "value": 0.92, "passed": True}
NEW = {
    "metric": "vs_champion.f1", "condition": ">= 0", "value": None, "passed": True,
    "note": "there is no champion yet to compare with",
}  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Registry:
    return Registry(uri=f"sqlite:///{tmp_path}/registry/mlflow.db", artifacts=str(tmp_path / "registry/artifacts"))


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """A run with a trained adapter, its data and its evaluation."""
    run = tmp_path / "runs" / "quickstart" / "1"
    stages = {name: run / name / "out" for name in ("train", "prepare", "gate", "register")}
    for folder in stages.values():
        folder.mkdir(parents=True)
    (stages["train"] / "adapter_config.json").write_text("{}")
    (stages["train"] / "adapter_model.safetensors").write_bytes(b"weights")
    artifacts.Manifest("mapper.train", "train", "f1", "l1", files={}).write(run / "train")
    (stages["prepare"] / "train.jsonl").write_text('{"prompt": "a"}\n')
    (stages["prepare"] / "heldout.jsonl").write_text('{"prompt": "b"}\n')
    judge(stages["gate"], GATE, {**NEW, "outcome": "pass"})
    inputs = {"model": stages["train"], "data": stages["prepare"], "evaluation": stages["gate"]}
    events = Events("mapper.register", io.StringIO())
    return Context("mapper.register", inputs, out=stages["register"], work=run, events=events, lock="l1")


def judge(folder: Path, *gates: dict[str, Any]) -> None:
    evaluation = {"metrics": {"exact_match": 0.92, "vs_base.exact_match": 0.9}, "gates": list(gates), "rows": 300}
    artifacts.write_json(folder / "evaluation.json", evaluation)


def config(settings: Registry, **more: Any) -> register.Config:
    return register.Config(name="mapper", alias="champion", registry=settings, recipe="quickstart", **more)


def registered(settings: Registry, text: str = "registry:mapper") -> ModelVersion:
    return ModelRegistry(settings).resolve(model_ref.parse(text))


def written(context: Context) -> str:
    assert isinstance(context.events._stream, io.StringIO)
    return context.events._stream.getvalue()


def test_copying_a_large_model_tells_how_far_it_is(
    settings: Registry, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(register, "TOLD_FROM_BYTES", 2**20)
    (context.inputs["model"] / "adapter_model.safetensors").write_bytes(bytes(3 * 2**20))
    stream = io.StringIO()
    register.run(config(settings), replace(context, events=Events("mapper.register", stream)))
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    told = [(event["step"], event["total"], event["unit"]) for event in events if event["kind"] == "progress"]
    assert (told[0][0], told[-1]) == (0, (3, 3, "MiB copied"))


def test_the_model_is_registered_with_its_lineage(settings: Registry, context: Context) -> None:
    result = register.run(config(settings, recipe_digest="d1"), context)
    version = registered(settings)
    assert (version.kind, version.metrics["vs_base.exact_match"], version.lock) == ("adapter", 0.9, "l1")
    lineage = version.lineage
    assert (lineage.recipe, lineage.recipe_digest, lineage.fingerprint) == ("quickstart", "d1", "f1")
    assert (lineage.stage, lineage.run_dir) == ("mapper.train", str(context.out.parents[1]))
    assert lineage.gates == [GateResult("exact_match", ">= 0.85", 0.92, True), GateResult(**NEW)]
    rows = (context.inputs["data"] / "train.jsonl").read_bytes()
    assert lineage.data_sha256["train.jsonl"] == hashlib.sha256(rows).hexdigest()
    assert set(lineage.data_sha256) == {"train.jsonl", "heldout.jsonl"}
    expected = {"name": "mapper", "version": 1, "reference": "registry:mapper/1", "alias": "champion"}
    assert result.info == {**expected, "path": str(version.path)}
    assert json.loads((context.out / "registered.json").read_text()) == result.info
    assert "registered registry:mapper/1 as @champion" in written(context)


def test_a_card_goes_with_the_model_and_is_no_part_of_its_identity(settings: Registry, context: Context) -> None:
    register.run(config(settings), context)
    version = registered(settings)
    text = (version.path / "README.md").read_text()
    assert "# mapper" in text
    assert "| exact_match | `>= 0.85` | 0.92 | passed |" in text
    assert str(context.out.parents[1]) not in text
    judge(context.inputs["evaluation"], {**GATE, "condition": ">= 0.5"})
    register.run(config(settings), context)
    assert registered(settings).version == version.version, "the same files judged again are the same model"


def test_the_lock_of_the_run_goes_with_the_model(settings: Registry, context: Context) -> None:
    content = {"recipe": {}, "models": {}, "datasets": {}, "packages": {}, "hardware": {}}
    beside = {"origin": {"processor": "p"}, "resolved": {"stages": {"train": {"revision": "r"}}}}
    lock = {**content, "digest": artifacts.digest(content), **beside}
    artifacts.write_json(context.out.parents[1] / "lock.json", lock)
    register.run(config(settings), replace(context, lock=lock["digest"]))
    version = registered(settings)
    assert ModelRegistry(settings).lock(version) == lock
    assert version.lock == lock["digest"], "what served answers carry names the run"


def test_a_refused_model_is_not_registered(settings: Registry, context: Context) -> None:
    judge(
        context.inputs["evaluation"], GATE, {**GATE, "metric": "loss", "condition": "< 1", "value": 3, "passed": False}
    )
    with pytest.raises(GateError, match=r"loss is 3\.0, must be < 1") as error:
        register.run(config(settings), context)
    assert "exact_match" not in str(error.value)
    assert ModelRegistry(settings).list_models() == []


@pytest.mark.parametrize("text", ["", "{", '{"gates": [{"metric": "loss"}]}', "[]"])
def test_a_verdict_that_cannot_be_read_is_not_a_good_one(settings: Registry, context: Context, text: str) -> None:
    (context.inputs["evaluation"] / "evaluation.json").write_text(text)
    with pytest.raises(StageError, match=r"evaluation\.json cannot be read"):
        register.run(config(settings), context)
    (context.inputs["evaluation"] / "evaluation.json").unlink()
    with pytest.raises(StageError, match=r"evaluation\.json cannot be read"):
        register.run(config(settings), context)


def test_a_job_without_evaluation_has_no_metrics(settings: Registry, context: Context) -> None:
    inputs = {name: folder for name, folder in context.inputs.items() if name != "evaluation"}
    register.run(config(settings), replace(context, inputs=inputs))
    assert (registered(settings).metrics, registered(settings).lineage.gates) == ({}, [])


def test_a_parent_of_the_same_run_is_named_by_its_version(settings: Registry, context: Context, tmp_path: Path) -> None:
    record = {"name": "general", "version": 4, "reference": "registry:general/4", "alias": "champion", "path": "x"}
    artifacts.write_json(tmp_path / "parent" / "registered.json", record)
    within = replace(context, inputs={**context.inputs, "parent": tmp_path / "parent"})
    register.run(config(settings, parent="job:general"), within)
    assert registered(settings).lineage.parents == ["registry:general/4"]


def test_a_parent_that_is_not_registered_is_named_as_the_recipe_does(settings: Registry, context: Context) -> None:
    register.run(config(settings, parent="hub:org/base@main"), context)
    assert registered(settings).lineage.parents == ["hub:org/base@main"]


def test_an_alias_of_a_parent_becomes_the_version_that_training_used(settings: Registry, context: Context) -> None:
    base = {"base": "registry:general/3"}
    train = artifacts.Manifest("mapper.train", "train", "f1", "l1", files={}, info=base)
    train.write(context.inputs["model"].parent)
    register.run(config(settings, parent="registry:general@champion"), context)
    assert registered(settings).lineage.parents == ["registry:general/3"]
