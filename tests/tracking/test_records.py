"""What trackers are told: figures by step, results, beginnings and ends, and nothing that is secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from largeforge.recipe.tracking import Begun, Ended, Point, Record, Sample, Summary
from largeforge.tracking.about import about, files
from largeforge.tracking.records import Translator
from tests.fakes import tracked, trained


def records(folder: Path, *events: dict[str, Any], done: set[str] | None = None) -> list[Record]:
    translator = Translator(about(folder), folder, done=done)
    return [record for event in events for record in translator.records(event)]


def test_a_run_is_known_by_its_recipe_and_lock(tmp_path: Path) -> None:
    found = about(tracked.run_dir(tmp_path, *tracked.whole()))
    assert (found.run, found.recipe, found.lock) == ("20251121T015320-3f9ac2d1", "sft_qwen7b", "3f9ac2d1b7e0")
    assert found.params["method.learning_rate"] == 2e-5
    assert found.params["adapter.target_modules"] == '["q_proj", "v_proj"]'
    assert found.params["serving.extra.max-num-batched-tokens"] == 8192
    assert found.trainings == {"train": "main"}
    assert found.started == trained.START


def test_no_secret_leaves_the_machine(tmp_path: Path) -> None:
    found = about(tracked.run_dir(tmp_path))
    assert "hidden" not in json.dumps(dict(found.params))
    assert found.params["registry.uri"] == "http://mlflow.example:5000"


def test_each_training_of_several_has_its_own_parameters(tmp_path: Path) -> None:
    jobs = {name: {"method": {"learning_rate": rate}} for name, rate in (("a", 1e-3), ("b", 2e-3))}
    folder = tracked.run_dir(tmp_path, recipe={"name": "two", "seed": 1, "jobs": jobs})
    stages = [{"name": f"{name}.train", "kind": "train", "job": name} for name in jobs]
    (folder / "plan.json").write_text(json.dumps({"stages": stages}))
    found = about(folder)
    assert found.params_of("b.train") == {"method.learning_rate": 2e-3}
    judged = trained.event("finished", 9, "b.evaluate", metrics={"loss": 1.5})
    assert records(folder, judged) == [Summary("b.train", trained.START + 9, {"evaluate/loss": 1.5})]


def test_figures_have_their_step_and_time(tmp_path: Path) -> None:
    found = records(tracked.run_dir(tmp_path), *tracked.whole())
    points = [record for record in found if isinstance(record, Point)]
    by_step = {point.step: point for point in points if "train/loss" in point.values}
    assert sorted(by_step) == list(range(10, 501, 10))
    assert by_step[20].time == trained.START + 30
    assert by_step[20].values["train/mfu"] == 0.412
    assert by_step[20].values["train/entropy"] == 1.38
    assert not any("runtime" in name for name in by_step[20].values)
    heldout = [point for point in points if "eval/loss" in point.values]
    assert [point.step for point in heldout] == list(range(50, 501, 50))
    assert set(heldout[0].values) == {"eval/loss", "eval/mean_token_accuracy"}, "no run times"
    samples = [record for record in found if isinstance(record, Sample)]
    assert (samples[0].step, samples[0].prompt, samples[0].reference) == (100, "Question 1?", "The answer 1.")


def test_results_and_ends_are_told(tmp_path: Path) -> None:
    found = records(tracked.run_dir(tmp_path), *tracked.whole())
    results: dict[str, float] = {}
    for record in found:
        results |= record.values if isinstance(record, Summary) else {}
    assert results == {
        "final/loss": 0.79, "final/tokens": 6.2e6, "evaluate/exact_match": 0.92, "evaluate/vs_base.exact_match": 0.8,
        "gates/exact_match": 1.0,
    }  # fmt: skip
    assert [(record.stage, record.how) for record in found if isinstance(record, Ended)] == [
        ("train", "finished"), ("", "finished"),
    ]  # fmt: skip
    refused = trained.event("run_failed", 9, "", exit_code=3, error="a gate")
    interrupted = trained.event("run_failed", 9, "", exit_code=130, error="")
    assert [
        record.how for record in records(tracked.run_dir(tmp_path / "b"), refused) if isinstance(record, Ended)
    ] == ["failed"]
    assert [r.how for r in records(tracked.run_dir(tmp_path / "c"), interrupted) if isinstance(r, Ended)] == [
        "interrupted"
    ]


def test_a_training_of_another_run_that_is_reused_brings_its_curves_once(tmp_path: Path) -> None:
    folder = tracked.run_dir(tmp_path)
    recorded = [event for event in trained.training() if event["kind"] != "started"]
    (folder / "train" / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in recorded))
    reused = trained.event("finished", 1, seconds=0.0, reused=True, metrics={"loss": 0.79})
    found = records(folder, reused, reused)
    assert isinstance(found[0], Begun)
    assert len([record for record in found if isinstance(record, Point) and "train/loss" in record.values]) == 50
    assert records(folder, reused, done={"train"}) == [], "a later sitting repeats it"


def test_odd_events_are_no_records(tmp_path: Path) -> None:
    odd = [
        trained.event("progress", step="x", loss=1.0), trained.event("progress"),
        trained.event("eval", step=1, metrics=3),
        {"kind": "progress", "stage": "train", "time": "x", "step": 1}, trained.event("note", text="words"),
        trained.event("gate", 1, "nowhere.gate", metric="x", passed=True),
    ]  # fmt: skip
    assert [record for record in records(tracked.run_dir(tmp_path), *odd) if getattr(record, "values", None)] == []


def test_report_and_cards_go_with_the_run(tmp_path: Path) -> None:
    folder = tracked.run_dir(tmp_path)
    assert [(file.stage, file.path.name) for file in files(folder, about(folder))] == [
        ("", "report.html"), ("train", "README.md"),
    ]  # fmt: skip
