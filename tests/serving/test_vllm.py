"""Command lines as data: each golden file holds a `serving` section and what it must become."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from largeforge.errors import ServingError
from largeforge.recipe.schema import Serving
from largeforge.serving import tracing, vllm

CASES = sorted((Path(__file__).parent / "golden").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    case = json.loads(path.read_text())
    serving = Serving(**case["serving"])
    python, *words = vllm.command(serving, **case["arguments"])
    assert [python.replace(sys.executable, "PYTHON"), *words] == case["command"].split(" ")
    device = case["arguments"]["device"]
    assert vllm.environment(serving, device=device, **case["environment_arguments"]) == case["environment"]


def command(serving: Serving, **changed: Any) -> list[str]:
    arguments: dict[str, Any] = {"model": "/m", "served_name": "a", "adapters": {}, "port": 1, "device": "cpu"}
    return vllm.command(serving, **{**arguments, **changed})


@pytest.mark.parametrize(
    ("rank", "limit", "reserved"),
    [(1, 64, 8), (8, 64, 8), (9, 64, 16), (64, 64, 64), (300, 512, 320), (0, 64, 64), (0, 100, 64)],
)
def test_smallest_rank_that_vllm_accepts(rank: int, limit: int, reserved: int) -> None:
    words = command(Serving(max_lora_rank=limit), adapters={"b": "/b"}, adapter_rank=rank)
    assert words[words.index("--max-lora-rank") + 1] == str(reserved)


@pytest.mark.parametrize(("rank", "limit", "needed"), [(65, 64, 128), (24, 24, 32), (4, 4, 8)])
def test_rank_over_the_recipes_limit_names_the_key_to_change(rank: int, limit: int, needed: int) -> None:
    with pytest.raises(ServingError, match=rf"max_lora_rank = {limit}: .* Set serving.max_lora_rank={needed}\."):
        command(Serving(max_lora_rank=limit), adapters={"b": "/b"}, adapter_rank=rank)


def test_rank_that_vllm_cannot_serve() -> None:
    with pytest.raises(ServingError, match=r"rank 600, .* Merge the adapter"):
        command(Serving(max_lora_rank=1024), adapters={"b": "/b"}, adapter_rank=600)


def test_extra_overrides_what_the_section_says() -> None:
    words = command(Serving(enforce_eager=True, extra={"enforce-eager": False, "max-num-seqs": 7}))
    assert "--enforce-eager" not in words
    assert "--no-enforce-eager" in words
    assert words[words.index("--max-num-seqs") + 1] == "7"
    assert words.count("--max-num-seqs") == 1


def test_the_hub_stays_reachable_unless_everything_is_here() -> None:
    assert "HF_HUB_OFFLINE" not in vllm.environment(Serving(), device="cpu")
    assert vllm.environment(Serving(), device="cpu", offline=True)["HF_HUB_OFFLINE"] == "1"


def test_spans_go_where_those_of_the_gateway_go() -> None:
    url = "http://127.0.0.1:4318/v1/traces"
    assert "--otlp-traces-endpoint" not in command(Serving())
    words = command(Serving(), traces_url=url)
    assert words[words.index("--otlp-traces-endpoint") + 1] == url
    variables = vllm.environment(Serving(), device="cuda", has_traces=True)
    assert variables["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
    assert "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL" not in vllm.environment(Serving(), device="cuda")


def test_an_interpreter_without_opentelemetry_is_told(tmp_path: Path) -> None:
    assert not tracing.missing(Serving())
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'opentelemetry'\" >&2\nexit 1\n")
    bare.chmod(0o755)
    assert tracing.missing(Serving(python=str(bare))) == f"{bare}: ModuleNotFoundError: No module named 'opentelemetry'"
    assert "cannot be asked" in tracing.missing(Serving(python=str(tmp_path / "nowhere")))
