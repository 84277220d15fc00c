"""A load test of real vLLM behind the real gateway, by vLLM's own tool: what it reports, and gates that refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.workspace import Workspace, environment, processes
from tests.report.test_report import Page

TINY_MODEL = Path(__file__).parents[1] / "serving" / "tiny_model.py"
RECIPE = """# @package _global_
defaults:
  - /router: keyword
  - /serving: vllm_cpu
  - override /hardware: cpu
  - _self_
name: loaded
topology:
  experts:
    general: {{model: "path:{folder}/base"}}
    mapper: {{model: "path:{folder}/adapter", adapter_on: general, keywords: [taxonomy]}}
router: {{}}
gateway: {{port: 0}}
load_test:
  requests_per_second: 4
  steps: [2]
  num_requests: 12
  prompt_tokens: 40
  prompt_tokens_spread: 0.25
  completion_tokens: 12
  slo: {{ttft_ms: 60000}}
  gates:
    error_share: "<= 0"
    goodput_share: ">= 0.99"
    ttft_p95_ms: "<= 0.001"
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and an adapter with random weights, in the folders `base` and `adapter`."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, str(TINY_MODEL), str(folder)], check=True, env=environment(), timeout=900)
    return folder


def test_a_load_test_measures_real_vllm_and_its_gates_refuse(workspace: Workspace, models: Path) -> None:
    workspace.write("recipes/loaded.yaml", RECIPE.format(folder=models))
    ended = workspace.run("+recipe=loaded")
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert "load_test.ttft_p95_ms is" in ended.stdout + ended.stderr
    assert "must be <= 0.001" in ended.stdout + ended.stderr
    assert "gate passed  load_test.error_share" in ended.stdout
    run = workspace.run_dir("loaded")
    (told,) = [event for event in _events(run) if event["kind"] == "table" and "load_test" in event]
    two, four = told["load_test"]
    assert (two["requests_per_second"], four["requests_per_second"]) == (2, 4)
    for step in (two, four):
        assert (step["sent"], step["completed"], step["failed"]) == (12, 12, 0)
        assert 0 < step["ttft_p50_ms"] <= step["ttft_p95_ms"] <= step["e2e_p99_ms"]
        assert 0 < step["inter_token_p50_ms"] < step["e2e_p50_ms"] - step["ttft_p50_ms"]
        assert step["goodput_share"] == 1
    page = Page((run / "report.html").read_text())
    assert "load" in page.sections
    assert "Time to first token" in page.text
    assert not processes("loadtest/driver.py", str(workspace.path))
    report = json.loads(next(run.rglob("load_test.json")).read_text())
    assert [step["output_tokens"] for step in report["steps"]] == [144, 144], "12 tokens each, whatever the model says"
    assert all(step["prompt_tokens"] > 12 * 30 for step in report["steps"])
    assert not list(run.rglob("result.json"))


@pytest.mark.thorough
def test_the_shipped_recipe_asks_its_rows_and_lets_served_models_pass(workspace: Workspace, models: Path) -> None:
    adapter = f"path:{models}/adapter"
    ended = workspace.run(
        "+recipe=load_quickstart", "gateway.port=0", "load_test.steps=[]", "load_test.duration_s=5",
        f"topology.experts.general.model=path:{models}/base",
        *(f"topology.experts.{name}.model={adapter}" for name in ("mapper", "support")),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    metrics = workspace.manifest("load_quickstart", "serve")["metrics"]
    assert (metrics["load_test.sent"], metrics["load_test.failed"]) == (10, 0)
    assert metrics["load_test.goodput_share"] >= 0.9
    report = json.loads((workspace.run_dir("load_quickstart") / "serve" / "out" / "load_test.json").read_text())
    assert [gate["passed"] for gate in report["gates"]] == [True, True, True]
    assert 10 < report["steps"][0]["output_tokens"] <= 10 * 32
    rows = (Path(__file__).parents[2] / "recipes/data/quickstart/support_heldout.jsonl").read_text().splitlines()
    asked = [json.loads(row)["messages"][0]["content"] for row in rows]
    left = [path for path in workspace.path.rglob("*") if path.is_file()]
    assert left
    for path in left:
        text = path.read_text(errors="replace")
        assert not [prompt for prompt in asked if prompt in text], f"{path} has what was asked"


def _events(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
