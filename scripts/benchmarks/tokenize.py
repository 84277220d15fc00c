"""How fast rows become tokens with a loss mask: LargeForge's files beside trl's own preparation.

Conversations are generated from a seed, and a BPE tokenizer of 32000 tokens is trained on the standard library's
sources. Ours is timed over all rows, in a process of its own with its workers, then again from what it kept; trl's
`SFTTrainer._prepare_dataset` over the first rows only, since it needs hours for all, in turns with ours on the same
rows. Both make the same ids and labels (tests/e2e/test_tokens.py), which is checked here once more.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from scripts.tables import columns

SUMMARY = "rows/s and memory of tokenizing a million conversations, beside trl's own preparation"

VOCABULARY = 32_000
_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows that ours is timed over (%(default)s)")
    parser.add_argument("--subset", type=int, default=5000, help="rows that both are timed over (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of both (%(default)s)")
    parser.add_argument("--template", default="chatml", help="chatml, or a file of trl/chat_templates (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")


def run(options: argparse.Namespace) -> int:
    """Measure and print the table; return 1 when ids or labels differ."""
    with tempfile.TemporaryDirectory(prefix="largeforge-bench-") as name:
        folder = Path(name)
        _child("make", folder, rows=options.rows, subset=options.subset, template=options.template)
        turns: dict[str, list[dict[str, Any]]] = {"ours": [], "trl": [], "trl, all cores": []}
        for number in range(options.rounds):
            turns["ours"].append(_child("ours", folder, file="subset", work=f"subset{number}"))
            turns["trl"].append(_child("trl", folder, processes=None))
            turns["trl, all cores"].append(_child("trl", folder, processes=os.cpu_count()))
        digests = {found["digest"] for found in [*turns["ours"], *turns["trl"], *turns["trl, all cores"]]}
        whole = _child("ours", folder, file="all", work="all")
        again = _child("ours", folder, file="all", work="all")
        megabytes = (folder / "all.jsonl").stat().st_size / 1e6
    print(_table(options, turns, whole, again, megabytes))
    if options.json:
        found = {"turns": turns, "whole": whole, "again": again, "megabytes": megabytes, "cores": os.cpu_count()}
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if len(digests) != 1:
        print("ids or labels differ between ours and trl's", file=sys.stderr)
        return 1
    return 0


def _table(options: argparse.Namespace, turns: Any, whole: Any, again: Any, megabytes: float) -> str:
    middle = {label: statistics.median(found["rows_per_s"] for found in runs) for label, runs in turns.items()}
    base = middle["trl"]
    rows: list[tuple[str, ...]] = [("what", "rows", "seconds", "rows/s", "× trl", "memory MiB")]
    for label, runs in turns.items():
        memory = max(found["memory_mib"] for found in runs)
        seconds = statistics.median(found["seconds"] for found in runs)
        figures = (f"{seconds:.2f}", f"{middle[label]:.0f}", f"{middle[label] / base:.1f}", f"{memory:.0f}")
        rows.append((f"{label}, the first rows", str(options.subset), *figures))
    for label, found in (("ours, all rows", whole), ("ours, found again", again)):
        figures = (f"{found['seconds']:.2f}", f"{found['rows_per_s']:.0f}", f"{found['rows_per_s'] / base:.1f}")
        rows.append((label, str(options.rows), *figures, f"{found['memory_mib']:.0f}"))
    about = (
        f"{megabytes:.0f} MB of rows, {whole['tokens'] / 1e6:.1f} M tokens, {os.cpu_count()} cores; memory is what the "
        f"main process grew by; each of our workers held {whole['worker_mib']:.0f} MiB"
    )
    return f"{columns(rows)}\n\n{about}"


def _child(what: str, folder: Path, **options: Any) -> dict[str, Any]:
    """Do one thing in a process of its own; return what it says."""
    environment = {
        **os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]), "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    program = [sys.executable, "-m", "scripts.benchmarks._tokenize_child", what, str(folder), json.dumps(options)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{what}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def sources() -> list[str]:
    """Return texts to train a tokenizer on and to take words from: the standard library's sources."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    return [path.read_text(encoding="utf-8", errors="ignore") for path in sorted(folder.glob("*.py"))]


def conversations(count: int, words: list[str]) -> Any:
    """Yield rows of one to three questions and answers, from a seed."""
    pick = random.Random(0)
    for number in range(count):
        messages = [{"role": "system", "content": "You are a helpful assistant of a shop."}]
        for _ in range(pick.choice((1, 1, 2, 3))):
            for role, most in (("user", 60), ("assistant", 120)):
                place = pick.randrange(len(words) - most)
                messages.append({"role": role, "content": " ".join(words[place : place + pick.randint(5, most)])})
        yield {"messages": messages, "source": f"rows.jsonl:{number + 1}"}


def template(name: str) -> str:
    """Return a chat template by name."""
    if name == "chatml":
        return _CHATML
    import trl

    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
