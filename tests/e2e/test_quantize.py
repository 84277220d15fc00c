"""Quantized models for real: each tool in its own environment, each result in vLLM beside the original."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from largeforge import processor
from largeforge.artifacts import write_json
from largeforge.data.rows import read_rows
from largeforge.environments import build, spec
from largeforge.events import Events
from largeforge.quantizing import folder, process, prompts
from largeforge.recipe import extensions
from largeforge.recipe.quantization import Acceptance, settings_of
from largeforge.recipe.schema import Serving
from largeforge.stages import quantize
from largeforge.stages.context import Context
from largeforge.stages.loading import load_tokenizer
from largeforge.stages.models import ResolvedModel
from tests.e2e.workspace import Workspace, environment, processes

RECIPE = "quantize_small"
FLOOR = 0.95
"""Least share of greedy answers that are the original's."""
MADE = {"fp8_dynamic": "float32", "gptq": "float16", "awq": "float16", "awq_autoawq": "float16"}
"""Quantizers besides the recipe's own w8a8, and the precision in which vLLM serves them on a CPU."""
SERVED = MADE if processor.has_avx512() else {"fp8_dynamic": MADE["fp8_dynamic"]}
"""Those that this machine's CPU serves."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A working directory in which the recipe has run, with environments built from nothing."""
    workspace = Workspace(tmp_path_factory.mktemp("quantize"))
    os.environ["XDG_CACHE_HOME"] = str(workspace.path / "cache")
    result = workspace.run(
        f"+recipe={RECIPE}",
        "method.max_steps=150",
        "evaluation.exact_match.max_new_tokens=8",  # the base never ends
        "quantization.acceptance.rounds=5",
        timeout_s=900,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "w8a8 beside the original" in result.stdout
    return workspace


def test_the_recipe_registers_a_quantized_model_with_how_it_was_made(ran: Workspace) -> None:
    run = ran.run_dir(RECIPE)
    record = json.loads((run / "quantize" / "out" / folder.RECORD).read_text())
    assert record["method"] == "w8a8"
    assert record["verdict"]["accepted"] is True
    assert record["calibration"]["rows"] == 64
    assert len(record["calibration"]["sha256"]) == 64
    assert record["versions"]["llmcompressor"].startswith("0.14.0")
    assert record["versions"]["transformers"] == "5.17.0"
    assert record["size_bytes"]["after"] < record["size_bytes"]["before"] / 2
    assert record["agreement"] >= FLOOR
    metrics = ran.manifest(RECIPE, "quantize")["metrics"]
    assert metrics["size_ratio"] < 0.5
    registered = Path(ran.manifest(RECIPE, "register")["info"]["path"])
    assert json.loads((registered / "config.json").read_text())["quantization_config"]["quant_method"]
    for name in ("tokenizer.json", "generation_config.json", "chat_template.jinja"):
        assert (registered / name).read_bytes() == (run / "train" / "out" / name).read_bytes()
    shown = json.loads(ran.run("models", "show", "quantize-small", "--json").stdout)
    assert [step["stage"] for step in shown["lineage"]["steps"]] == ["prepare", "init", "train", "quantize"]
    gates = {gate["metric"]: gate for gate in shown["lineage"]["gates"]}
    assert all(gate["passed"] for gate in gates.values())
    assert set(gates) == {"exact_match", "parity.same_tokens", "parity.same_answers", "parity.logprob_difference"}
    assert gates["parity.same_tokens"]["value"] == 1
    assert 0 < gates["parity.logprob_difference"]["value"] < 0.1, "the quantized model, and not the original"
    assert not processes("vllm.entrypoints", str(ran.path))


@pytest.mark.thorough
def test_every_quantizer_that_a_cpu_serves_answers_as_the_original(ran: Workspace, tmp_path: Path) -> None:
    run = ran.run_dir(RECIPE)
    original, data = run / "train" / "out", run / "prepare" / "out"
    tokenizer = load_tokenizer(ResolvedModel(str(original), "train"))
    rows = prompts.calibration(data / "train.jsonl", tokenizer, count=32, length=64, seed=1).rows
    made = {name: tmp_path / name for name in MADE}
    for tool, names in {"llm_compressor": ["fp8_dynamic", "gptq", "awq"], "autoawq": ["awq_autoawq"]}.items():
        _make({name: made[name] for name in names}, tool, original, rows)
    judged = prompts.judged(data / "heldout.jsonl", tokenizer, count=64, length=64, seed=1)
    write_json(tmp_path / "prompts.json", [prompt.prompt for prompt in judged])
    models = {"original": f"{original}:float32", **{name: f"{made[name]}:{SERVED[name]}" for name in SERVED}}
    served = subprocess.run(
        [
            sys.executable, str(Path(__file__).parent / "serve_in_turn.py"), str(tmp_path / "prompts.json"),
            *(f"{name}={model}" for name, model in models.items()),
        ],
        stdout=subprocess.PIPE, env=environment(), text=True, timeout=600, check=True,
    )  # fmt: skip
    answers = json.loads(served.stdout)
    for name in SERVED:
        same = sum(one == other for one, other in zip(answers[name], answers["original"], strict=True))
        assert same / len(judged) >= FLOOR, name
        assert folder.weights_bytes(made[name]) < folder.weights_bytes(original) / 2


def test_corrupted_scales_and_a_slower_model_are_refused_and_the_original_is_kept(
    ran: Workspace, tmp_path: Path
) -> None:
    run = ran.run_dir(RECIPE)
    out, attempt = tmp_path / "out", tmp_path / "work" / "0-w8a8"
    folder.keep(run / "quantize" / "out", attempt / "model")  # as an earlier attempt at the stage left it
    write_json(attempt / quantize.DONE, {"method": "w8a8", "seconds": 1.0})
    _corrupt_scales(attempt / "model" / "model.safetensors")
    out.mkdir()
    rules = Acceptance(max_memory_ratio=2.0, min_speed_ratio=20.0, judged_rows=50, max_new_tokens=4, rounds=5)
    first = extensions.load("quantization", "w8a8").Config(fallback=["none"], acceptance=rules)
    config = quantize.Config(
        choices=settings_of(first), calibration_rows=8, calibration_length=64, acceptance=rules,
        serving=Serving(enforce_eager=True, max_num_seqs=32), device="cpu", seed=1,
    )  # fmt: skip
    inputs = {"model": run / "train" / "out", "data": run / "prepare" / "out"}
    with (tmp_path / "events.jsonl").open("w") as stream:
        context = Context("quantize", inputs, out, attempt.parent, Events("quantize", stream), lock="")
        result = quantize.run(config, context)
    assert result.info["method"] == "none"
    refused = json.loads((out / folder.RECORD).read_text())["refused"]
    assert [one["method"] for one in refused] == ["w8a8"]
    verdicts = {row[0]: row[-1] for row in refused[0]["verdict"]["rows"]}
    assert verdicts == {"nats a token": "NOT met", "tokens/s": "NOT met", "memory": "met", "size on disk": "met"}
    assert (out / "model.safetensors").read_bytes() == (inputs["model"] / "model.safetensors").read_bytes()
    tables = [event for event in read_rows(tmp_path / "events.jsonl") if event["kind"] == "table"]
    assert [table["title"] for table in tables] == ["w8a8 beside the original"]


def _make(made: dict[str, Path], tool: str, original: Path, rows: list[list[int]]) -> None:
    """Quantize with several methods of one tool, in one process of its environment: its imports take longest."""
    there = build.ensure(spec.named(tool), lambda text: None)
    specs = []
    for name, path in made.items():
        path.mkdir()
        module = extensions.load("quantization", name)
        job = {"model": str(original), "out": str(path), "device": "cpu", "rows": rows}
        specs.append(path.with_suffix(".json"))
        write_json(specs[-1], process.spec_of(name, module.Config().model_dump(), job, there, stage="quantize"))
    code = "import sys; from largeforge.quantizers.__main__ import main; sys.exit(max(main([p]) for p in sys.argv[1:]))"
    subprocess.run([there.python, "-c", code, *map(str, specs)], env=environment(), timeout=600, check=True)
    for path in made.values():
        folder.complete(original, path)


def _corrupt_scales(path: Path) -> None:
    """Scale every other output of each linear layer wrongly, as a bug in a tool might."""
    from safetensors.torch import load_file, save_file

    tensors: dict[str, Any] = load_file(path)
    for name in [name for name in tensors if name.endswith("weight_scale")]:
        tensors[name][::2] *= 4
    path.unlink()  # a hard link of the good one
    save_file(tensors, path, metadata={"format": "pt"})
