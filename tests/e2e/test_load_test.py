"""A load test of real vLLM behind the real gateway, by vLLM's own tool: what it reports, and gates that refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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


def test_a_load_test_measures_real_vllm_and_its_gates_refuse(workspace: Workspace) -> None:
    made = subprocess.run(
        [sys.executable, str(TINY_MODEL), str(workspace.path)], capture_output=True, text=True, env=environment()
    )
    assert made.returncode == 0, made.stderr
    workspace.write("recipes/loaded.yaml", RECIPE.format(folder=workspace.path))
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
    # Every answer has the 12 tokens that were asked for, and the random text is in no log.
    report = json.loads(next(run.rglob("load_test.json")).read_text())
    assert [step["output_tokens"] for step in report["steps"]] == [144, 144]
    assert all(step["prompt_tokens"] > 12 * 30 for step in report["steps"])
    assert not list(run.rglob("result.json"))


def _events(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
