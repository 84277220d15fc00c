"""Rows as token ids: those to calibrate with, drawn by their hash, and those to compare two models on."""

from __future__ import annotations

import hashlib
import heapq
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import canonical_json, digest
from largeforge.stages.loading import render, text_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Row = dict[str, Any]


@dataclass(frozen=True)
class Prompt:
    """A prompt with the answer that is right for it."""

    prompt: list[int]
    """Token ids up to where the answer begins."""
    answer: list[int]
    """Token ids of the answer; empty where the row has none."""


@dataclass(frozen=True)
class Calibration:
    """What a quantizer is calibrated with."""

    rows: list[list[int]]
    seed: int
    length: int

    def record(self) -> dict[str, Any]:
        """Return what identifies it, without the rows."""
        return {
            "rows": len(self.rows), "tokens": sum(map(len, self.rows)), "seed": self.seed, "length": self.length,
            "sha256": digest(self.rows),
        }  # fmt: skip


def calibration(path: Path, tokenizer: Any, *, count: int, length: int, seed: int) -> Calibration:
    """Return `count` rows of a prepared file under the model's chat template, cut to `length` tokens."""
    chosen = drawn(path, count, seed=seed)
    ids = [_whole(row, tokenizer)[:length] for row in chosen]
    return Calibration([row for row in ids if row], seed, length)


def drawn(path: Path, count: int, *, seed: int) -> list[Row]:
    """Return the rows of a file whose seeded hashes are smallest: the same whatever the order of the rows."""
    with path.open(encoding="utf-8") as stream:
        smallest = heapq.nsmallest(count, _hashed(stream, seed), key=lambda pair: pair[0])
    return [json.loads(line) for _, line in smallest]


def judged(path: Path, tokenizer: Any, *, count: int, length: int, seed: int) -> list[Prompt]:
    """Return rows of a prepared file to compare two models on; those longer than `length` tokens are left out."""
    found: list[Prompt] = []
    for row in drawn(path, count, seed=seed):
        prompt = _prompt(row, tokenizer)
        if len(prompt.prompt) + len(prompt.answer) <= length and prompt.prompt:
            found.append(prompt)
    return found


def _hashed(lines: Iterator[str], seed: int) -> Iterator[tuple[str, str]]:
    for line in lines:
        row = {key: value for key, value in json.loads(line).items() if key != "source"}
        yield hashlib.sha256(f"{seed}:{canonical_json(row)}".encode()).hexdigest(), line


def _whole(row: Row, tokenizer: Any) -> list[int]:
    if "text" in row:
        return text_tokens(tokenizer, row["text"])
    asked, answer = _turns(row)
    return render(tokenizer, [*asked, *answer], generation_prompt=not answer, tools=row.get("tools"))


def _prompt(row: Row, tokenizer: Any) -> Prompt:
    """Split a row where the answer begins; a text begins to be judged at its second token."""
    whole = _whole(row, tokenizer)
    if "text" in row:
        return Prompt(whole[:1], whole[1:])
    asked, _ = _turns(row)
    prompt = render(tokenizer, asked, generation_prompt=True, tools=row.get("tools"))
    begins = whole[: len(prompt)] == prompt
    return Prompt(prompt, whole[len(prompt) :] if begins else [])


def _turns(row: Row) -> tuple[Sequence[Row], Sequence[Row]]:
    """Return the conversation that a row asks to go on with, and how it goes on."""
    if "messages" in row:
        return row["messages"][:-1], row["messages"][-1:]
    if "chosen" in row:
        return row["prompt"], row["chosen"]
    if row.get("completion") and row.get("label", True):
        return row["prompt"], row["completion"]
    answer = row.get("answer")
    return row["prompt"], [{"role": "assistant", "content": answer}] if answer else []
