"""Comparisons of real locks with made-up results: what differs, which kind comes first, and what explains what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from largeforge.compare.causes import KINDS, kind_of
from largeforge.compare.differences import Comparison, compare
from largeforge.recorded import Recorded, StageResult, of_run

if TYPE_CHECKING:
    from tests.fakes.recorded import Desk


def compared(
    desk: Desk, *words: str, b: dict[str, Any] | None = None, lock: dict[str, Any] | None = None
) -> Comparison:
    """Compare a run of the recipe as it is with one with overrides and other results."""
    first = of_run(desk.record(loss=1.0))
    results: dict[str, Any] = {"weights": b"w", "loss": 1.0, **(b or {})}
    second = of_run(desk.record(*words, lock=lock, **results))
    return compare(first, second)


def test_two_runs_of_one_lock_are_the_same_although_they_took_another_time(desk: Desk) -> None:
    found = compared(desk)
    assert (found.same, found.differences) == (True, [])
    assert found.verdict == "The same lock; equal weights and metrics."


@pytest.mark.parametrize(
    ("words", "kind", "says"),
    [
        (["method.learning_rate=1e-3"], "method", "method.learning_rate 2e-05 → 0.001: 50 times larger"),
        (["model.architecture.hidden_size=64"], "model", "model.architecture.hidden_size 128 → 64"),
        (["seed=1"], "seed", "seed 42 → 1: other initial weights"),
        (["hardware.cores=1"], "hardware", "hardware.cores 2 → 1: sums are made in another order"),
        (["dataset.system=Hi"], "data", 'dataset.system "" → Hi: every row'),
    ],
)
def test_one_difference_is_named_as_the_cause(desk: Desk, words: list[str], kind: str, says: str) -> None:
    found = compared(desk, *words, b={"weights": b"other", "loss": 2.0})
    assert (found.same, found.likely and found.likely.kind) == (False, kind)
    assert found.verdict.startswith(f"The results differ; likely cause: {says}")


def test_other_rows_are_suspected_before_anything_else(desk: Desk) -> None:
    first = of_run(desk.record(loss=1.0))
    desk.write_rows(5)
    second = of_run(desk.record("method.learning_rate=1", "seed=1", weights=b"other", loss=9.0))
    found = compare(first, second)
    assert [each.kind for each in found.deciding] == ["data", "method", "seed"]
    assert "(3 rows)" in str(found.differences[0])
    assert "the rows themselves are others: 2 more (2 more below)" in found.verdict


def test_the_same_rows_under_another_name_are_no_cause(desk: Desk) -> None:
    desk.write_rows(3, "copy.jsonl")
    found = compared(desk, "dataset.path=copy.jsonl")
    assert [(each.key, each.kind) for each in found.differences] == [("recipe.dataset.path", "cosmetic")]
    assert found.verdict == "Nothing that decides a result differs; equal weights and metrics."
    assert not found.same


def test_what_only_training_heeds_does_not_explain_metrics_of_equal_weights(desk: Desk) -> None:
    found = compared(desk, "method.learning_rate=1", "evaluation.loss.batch_size=7", b={"loss": 2.0})
    assert found.likely is not None
    assert found.likely.key == "recipe.evaluation.loss.batch_size"


def test_how_models_are_judged_does_not_explain_other_weights(desk: Desk) -> None:
    found = compared(desk, "seed=1", "evaluation.loss.batch_size=7", b={"weights": b"other"})
    assert found.likely is not None
    assert found.likely.key == "recipe.seed"


def test_results_that_nothing_explains_are_called_nondeterminism(desk: Desk) -> None:
    found = compared(desk, b={"loss": 1.0001})
    assert "nothing that is recorded explains it: nondeterminism" in found.verdict
    metric = next(stage for stage in found.stages if stage.name == "evaluate").metrics[0]
    assert metric.delta == pytest.approx(1e-4)
    assert metric.percent == pytest.approx(1e-2)


def test_another_processor_is_a_cause_and_yet_the_same_lock(desk: Desk) -> None:
    same = compared(desk, lock={"origin": {"processor": "another"}})
    assert (same.same, [each.kind for each in same.differences]) == (True, ["hardware"])
    other = compared(desk, lock={"origin": {"processor": "another"}}, b={"loss": 2.0})
    assert "likely cause: origin.processor" in other.verdict


def test_what_only_one_side_knows_is_no_difference(desk: Desk) -> None:
    run = of_run(desk.record(lock={"resolved": {"stages": {"train": {"chat_template": "a"}}}}))
    assert compare(run, Recorded("recipe", desk.plan().lock)).same
    other = {**run.lock, "resolved": {"stages": {"train": {"chat_template": "b"}}}}
    found = compare(run, Recorded("other", other))
    assert [each.kind for each in found.differences] == ["model"]
    assert "conversations are written out in another way" in found.verdict


def test_a_stage_that_one_side_kept_no_metrics_of_is_compared_by_its_weights(desk: Desk) -> None:
    run = of_run(desk.record(loss=1.0))
    stages = {"train": run.stages["train"]}
    found = compare(run, Recorded("registry:m/1", run.lock, stages=stages, target="train"))
    assert [(stage.name, stage.weights) for stage in found.stages] == [("train", True)]


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("recipe.jobs.mapper.method.beta", "method"),
        ("recipe.jobs.mapper.method.logging_steps", "cosmetic"),
        ("recipe.jobs.mapper.model.ref", "model"),
        ("recipe.jobs.mapper.model.license", "cosmetic"),
        ("recipe.gates.loss", "evaluation"),
        ("recipe.topology.experts.a.model", "serving"),
        ("recipe.description", "cosmetic"),
        ("packages.torch", "packages"),
        ("packages.vllm", "serving"),
        ("packages.pydantic", "cosmetic"),
        ("models.hub:a/b.c.sha256", "model"),
        ("resolved.stages.serve.experts.a", "serving"),
        ("origin.git.commit", "cosmetic"),
        ("origin.driver", "hardware"),
        ("something.new", "cosmetic"),
    ],
)
def test_kinds_of_keys(key: str, kind: str) -> None:
    assert kind in KINDS
    assert kind_of(key) == kind


def test_models_of_two_jobs_of_one_run_are_compared_as_jobs() -> None:
    """As if each job had been the only one of its recipe."""
    jobs = {
        "mapper": {"method": {"name": "sft", "max_steps": 300}, "dataset": {"path": "a.jsonl"}},
        "support": {"method": {"name": "sft", "max_steps": 100}, "dataset": {"path": "b.jsonl"}},
    }
    lock = {
        "digest": "d" * 64,
        "recipe": {"name": "q", "jobs": jobs, "seed": 1},
        "datasets": {"a.jsonl": "1", "b.jsonl": "2"},
    }

    def model(job: str, loss: float) -> Recorded:
        stages = {
            f"{job}.train": StageResult("train", {"model.safetensors": job}, {}),
            f"{job}.evaluate": StageResult("evaluate", {}, {"loss": loss}),
        }
        return Recorded(f"registry:{job}/1", lock, stages=stages, target=f"{job}.train")

    found = compare(model("mapper", 1.0), model("support", 2.0))
    assert [each.shown_key for each in found.deciding] == ["dataset.path", "method.max_steps"]
    assert [(stage.name, stage.same) for stage in found.stages] == [("train", False), ("evaluate", False)]
    assert not found.same
    assert compare(model("mapper", 1.0), model("mapper", 1.0)).same
