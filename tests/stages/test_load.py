"""The serve stage with a load test: its report, its metrics and its gates; the tool and vLLM are fakes here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from largeforge.errors import DataError, GateError
from tests.stages.test_serve import Stage, adapter, model, question

FAKE = str(Path(__file__).parents[1] / "loadtest" / "fake_tool.py")
LOAD = {
    "requests_per_second": 4.0, "steps": [8.0], "num_requests": 8, "prompt_tokens": 9, "completion_tokens": 3,
    "slo": {"ttft_ms": 100},
}  # fmt: skip


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    general, mapper = model(tmp_path / "general/model"), adapter(tmp_path / "mapper/adapter")
    stage = Stage(tmp_path, general, mapper, FAKE)
    stage.config["load_test"] = LOAD
    return stage


def test_the_report_is_in_the_artifact_and_the_metrics_in_the_manifest(stage: Stage) -> None:
    stage.ask(question("hello", "general"))
    stage.config["load_test"] = {**LOAD, "gates": {"ttft_p95_ms": "<= 60", "failed": "<= 0"}}
    result = stage.run()
    assert result.metrics["answers"] == 1
    assert result.metrics["load_test.ttft_p95_ms"] == pytest.approx(50)
    assert result.metrics["load_test.sustained_per_s"] == 8
    report = json.loads((stage.out / "load_test.json").read_text())
    assert [step["requests_per_second"] for step in report["steps"]] == [4, 8]
    assert [gate["passed"] for gate in report["gates"]] == [True, True]
    assert [event["metric"] for event in stage.events("gate")] == ["load_test.ttft_p95_ms", "load_test.failed"]
    (table,) = stage.events("table")
    assert [row[0] for row in table["rows"]] == [4, 8]
    assert stage.events("progress")[-1] | {"time": 0} == {
        "time": 0, "stage": "serve", "kind": "progress", "step": 8, "total": 8, "unit": "requests",
    }  # fmt: skip


def test_a_gate_refuses_and_what_was_measured_is_kept(stage: Stage) -> None:
    stage.config["load_test"] = {**LOAD, "gates": {"ttft_p95_ms": "<= 40", "error_share": "<= 0"}}
    with pytest.raises(GateError, match=r"gate refused what is served: load_test\.ttft_p95_ms is 50, must be <= 40$"):
        stage.run()
    assert [event["outcome"] for event in stage.events("gate")] == ["fail", "pass"]
    assert (stage.out / "load_test.json").is_file()
    assert stage.events("table")


@pytest.mark.parametrize(("expert", "folder"), [("auto", "general/model"), ("mapper", "general/model")])
def test_prompts_are_made_with_the_tokenizer_of_the_base(stage: Stage, expert: str, folder: str) -> None:
    from largeforge.recipe.schema import LoadTest, Topology
    from largeforge.stages import load, serve
    from largeforge.stages.context import Context

    config = serve.Config.model_validate(stage.config)
    context = Context("serve", stage.inputs, stage.out, stage.folder, None, "lock0")  # type: ignore[arg-type]
    found = load.tokenizer(
        LoadTest(expert=expert),
        Topology.model_validate(stage.config["topology"]),
        serve.served_experts(config, context),
    )
    assert found == str(stage.folder / folder)


def test_rows_that_ask_nothing_are_found_before_models_are_loaded(stage: Stage) -> None:
    stage.config["load_test"] = {**LOAD, "path": str(stage.folder / "rows.jsonl")}
    (stage.folder / "rows.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:1"):
        stage.run()
    assert stage.events("note") == []
