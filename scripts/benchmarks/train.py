"""Training beside an ordinary trl script with the same model, rows and settings, the two in turns.

Of both is measured how many tokens a second they learn from once they run, and how long it takes from the
command to the end of the first optimizer step. Where both do the same, their losses must be the same as well.
On a GPU the plain script has trl's defaults, and some cases let LargeForge pack rows, which trl leaves off.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.benchmarks import _train_cases as cases
from scripts.tables import columns

if TYPE_CHECKING:
    import argparse

SUMMARY = "tokens a second and time to the first step, beside a plain trl script"

_TIMEOUT_S = 1800
_WARM_UP = 6
"""Steps before the rate is taken: the first ones allocate and compile."""
_LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}


@dataclass(frozen=True)
class Seen:
    """What one training showed."""

    first_step_s: float
    """Seconds from the command to the end of the first optimizer step."""
    tokens_per_s: float
    losses: dict[int, float]
    peak_gib: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where to train (default: %(default)s)"
    )
    parser.add_argument("--runs", type=int, default=3, help="rounds of each case (default: %(default)s)")
    parser.add_argument("--cases", default="", metavar="TEXT", help="only cases whose name contains this")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write what was measured as JSON, after every case")


def run(options: argparse.Namespace) -> int:
    """Measure, print the table, and return 1 when losses differ that must be equal."""
    chosen = [case for case in (cases.CUDA if options.device == "cuda" else cases.CPU) if options.cases in case.name]
    if not chosen:
        print(f"no case contains {options.cases!r}", file=sys.stderr)
        return 2
    rows = [["", "tokens/s: trl", "ours", "ratio", "first step: trl", "ours", "later by", "GiB: trl", "ours", "losses"]]
    kept: dict[str, Any] = {}
    differ = False
    for case in chosen:
        with tempfile.TemporaryDirectory() as folder:
            pairs = _case(case, Path(folder), options.device, options.runs)
        same = all(_equal(plain.losses, ours.losses) for plain, ours in pairs)
        differ |= case.is_same and not same
        rows.append([case.name, *_cells(pairs), ("equal" if same else "differ") if case.is_same else "other rows"])
        kept[case.name] = [[vars(plain), vars(ours)] for plain, ours in pairs]
        if options.output:
            options.output.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(columns(rows))
    return 1 if differ else 0


def _case(case: cases.Case, folder: Path, device: str, runs: int) -> list[tuple[Seen, Seen]]:
    """Train a case in turns; return what the plain script and LargeForge showed in each round."""
    maker = f"from scripts.benchmarks import _train_cases as c; from pathlib import Path; c.write_model({case!r}"
    maker = maker.replace("Case(", "c.Case(") + f", Path({str(folder / 'model')!r}), device={device!r})"
    subprocess.run([sys.executable, "-c", maker], check=True, env=_environment(device), capture_output=True)
    cases.write_rows(case, folder / "rows.jsonl")
    (folder / "recipes").mkdir()
    (folder / "recipes" / "bench.yaml").write_text(_recipe(case, folder), encoding="utf-8")
    pairs = []
    for number in range(runs):
        order = [_plain, _ours] if number % 2 == 0 else [_ours, _plain]
        found = {contestant: contestant(case, folder, device) for contestant in order}
        pairs.append((found[_plain], found[_ours]))
        print(f"{case.name}: round {number + 1} of {runs}", file=sys.stderr, flush=True)
    return pairs


def _settings(case: cases.Case) -> dict[str, Any]:
    """Return what both sides are told, under names that both know."""
    return {
        "learning_rate": 1e-3, "max_steps": case.steps, "per_device_train_batch_size": case.batch,
        "max_length": case.length, "logging_steps": 1, "save_steps": 100000,
    }  # fmt: skip


def _plain(case: cases.Case, folder: Path, device: str) -> Seen:
    on_gpu = device == "cuda"
    trl = {
        **_settings(case), "output_dir": str(folder / "plain"), "save_strategy": "no", "report_to": "none",
        "include_num_input_tokens_seen": "non_padding", "logging_first_step": True,
    }  # fmt: skip
    if not on_gpu:
        trl |= {"use_cpu": True, "bf16": False, "gradient_checkpointing": False}
    settings = {
        "model": str(folder / "model"), "data": str(folder / "rows.jsonl"), "trl": trl,
        "peft": None if case.adapter == "none" else _LORA, "four_bits": case.adapter == "qlora",
        "dtype": "bfloat16" if on_gpu else "float32",
    }  # fmt: skip
    program = [sys.executable, "-m", "scripts.benchmarks._train_plain", json.dumps(settings)]
    started = time.time()
    ended = subprocess.run(
        program, capture_output=True, text=True, env=_environment(device), timeout=_TIMEOUT_S, cwd=folder
    )
    answer = [line for line in ended.stdout.splitlines() if line.startswith('{"measured"')]
    if not answer:
        raise SystemExit(f"the plain script failed:\n{ended.stderr[-3000:]}")
    seen = json.loads(answer[-1])["measured"]
    ends = {int(step): end for step, end in seen["ends"].items()}
    tokens = {int(step): count for step, count in seen["tokens"].items()}
    losses = {int(step): loss for step, loss in seen["losses"].items()}
    return _seen(started, ends, tokens, losses, seen["peak"] / 2**30)


def _ours(case: cases.Case, folder: Path, device: str) -> Seen:
    hardware = "cpu" if device == "cpu" else "auto"
    program = [
        sys.executable,
        "-m",
        "largeforge",
        "+recipe=bench",
        f"hardware={hardware}",
        "runs.resume=false",
        *case.ours,
    ]
    started = time.time()
    ended = subprocess.run(
        program, capture_output=True, text=True, env=_environment(device), timeout=_TIMEOUT_S, cwd=folder
    )
    if ended.returncode:
        raise SystemExit(f"largeforge failed:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    newest = max((folder / "runs" / "bench").iterdir(), key=lambda path: path.stat().st_mtime)
    lines = (newest / "events.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [event for event in map(json.loads, lines) if event["stage"] == "train" and event["kind"] == "progress"]
    steps = [event for event in steps if event.get("unit") == "steps"]
    return _seen(
        started, {event["step"]: event["time"] for event in steps}, {event["step"]: event["tokens"] for event in steps},
        {event["step"]: event["loss"] for event in steps}, max(event["memory_gib"] for event in steps),
    )  # fmt: skip


def _seen(
    started: float, ends: dict[int, float], tokens: dict[int, int], losses: dict[int, float], peak_gib: float
) -> Seen:
    first, last = min(_WARM_UP, max(ends) // 2), max(ends)
    rate = (tokens[last] - tokens[first]) / (ends[last] - ends[first])
    return Seen(ends[1] - started, rate, losses, peak_gib)


def _recipe(case: cases.Case, folder: Path) -> str:
    """Return a recipe that says what the plain script does."""
    method = "".join(f"  {name}: {value}\n" for name, value in _settings(case).items())
    return (
        "# @package _global_\n# A benchmark.\ndefaults:\n  - /dataset: jsonl\n  - /method: sft\n"
        f"  - /adapter: {case.adapter}\n  - _self_\nname: bench\n"
        f"model:\n  name: bench\n  ref: path:{folder / 'model'}\n"
        f"dataset:\n  path: {folder / 'rows.jsonl'}\n  heldout_fraction: 0\nmethod:\n{method}"
    )


def _environment(device: str) -> dict[str, str]:
    """Return the environment of both sides; the plain script gets as many threads as the machine has cores."""
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def _equal(plain: dict[int, float], ours: dict[int, float]) -> bool:
    """Whether the same steps were logged with the same losses, as far as trl rounds them (4 digits)."""
    return plain.keys() == ours.keys() and all(abs(plain[step] - ours[step]) < 1e-3 for step in plain)


def _cells(pairs: list[tuple[Seen, Seen]]) -> list[str]:
    plain, ours = zip(*pairs, strict=True)
    rates = [statistics.median(seen.tokens_per_s for seen in side) for side in (plain, ours)]
    ratio = statistics.median(b.tokens_per_s / a.tokens_per_s for a, b in pairs)
    starts = [statistics.median(seen.first_step_s for seen in side) for side in (plain, ours)]
    later = statistics.median(b.first_step_s - a.first_step_s for a, b in pairs)
    peaks = [max(seen.peak_gib for seen in side) for side in (plain, ours)]
    return [
        f"{rates[0]:.0f}", f"{rates[1]:.0f}", f"{ratio:.2f}", f"{starts[0]:.1f} s", f"{starts[1]:.1f} s",
        f"{later:+.1f} s", f"{peaks[0]:.2f}", f"{peaks[1]:.2f}",
    ]  # fmt: skip
