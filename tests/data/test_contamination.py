"""Held-out text in training rows is found, and templates are not taken for it."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.data import contamination, ngrams

if TYPE_CHECKING:
    from pathlib import Path

CHANCE = random.Random(11)
WORDS = [f"word{number}" for number in range(5000)]
TEMPLATE = " ".join(f"please{n}" for n in range(20))


def words(count: int) -> str:
    return " ".join(CHANCE.choices(WORDS, k=count))


def row(prompt: str, answer: str = "Yes.", system: str = "") -> dict[str, Any]:
    start = [{"role": "system", "content": system}] if system else []
    return {"messages": [*start, {"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = (json.dumps({**each, "source": f"{path.name}:{n}"}) + "\n" for n, each in enumerate(rows, start=1))
    path.write_text("".join(lines))
    return path


def search(
    tmp_path: Path, heldout: list[dict[str, Any]], *train: list[dict[str, Any]], threshold: float = 0.5, **more: Any
) -> contamination.Found:
    files = [write(tmp_path / f"t{n}.jsonl", rows) for n, rows in enumerate(train)]
    return contamination.search(write(tmp_path / "h.jsonl", heldout), files, threshold=threshold, **more)


def test_a_training_row_that_contains_a_heldout_row_is_found(tmp_path: Path) -> None:
    secret, other = words(40), words(40)
    found = search(
        tmp_path,
        [row(words(40)), row(secret)],
        [row(words(40)), row(f"{words(30)} {secret.upper()}!! {words(30)}")],
        [row(other), row(secret.replace(" ", ",  "))],
    )
    assert (found.n, found.heldout_rows, found.train_rows) == (13, 1, 2)
    assert found.offenders == [[1], [1]]
    assert found.examples == [("t0.jsonl:2", "h.jsonl:2"), ("t1.jsonl:2", "h.jsonl:2")]
    assert found.describe() == (
        "1 held-out row is largely contained in 2 training rows, by 13-grams of words "
        "(t0.jsonl:2 has text of h.jsonl:2, t1.jsonl:2 has text of h.jsonl:2)"
    )


@pytest.mark.parametrize(("threshold", "rows"), [(0.2, 1), (0.8, 0)])
def test_how_much_must_occur(tmp_path: Path, threshold: float, rows: int) -> None:
    secret = words(60)
    part = " ".join(secret.split()[:36])
    assert search(tmp_path, [row(secret)], [row(part)], threshold=threshold).heldout_rows == rows


def test_templates_and_system_prompts_do_not_count(tmp_path: Path) -> None:
    train = [row(f"{TEMPLATE} {words(3)}", system=TEMPLATE) for _ in range(20)]
    heldout = [row(f"{TEMPLATE} {words(3)}", system=TEMPLATE) for _ in range(5)]
    assert search(tmp_path, heldout, train).heldout_rows == 0
    few = [row(words(20), system=TEMPLATE)]
    assert search(tmp_path, [row(words(20), system=TEMPLATE)], few).heldout_rows == 0


def test_rows_that_are_left_out_anyway_do_not_count(tmp_path: Path) -> None:
    secret = words(40)
    assert search(tmp_path, [row(secret)], [row(secret), row(words(9))], gone=[bytearray([1, 0])]).train_rows == 0


def test_short_rows_are_compared_by_shorter_ngrams(tmp_path: Path) -> None:
    secret = "what is the price of a parcel to spain today"
    found = search(tmp_path, [row(secret)], [row(f"hello, {secret}")])
    assert (found.n, found.heldout_rows) == (11, 1)
    assert search(tmp_path, [row("Hi")], [row("Hi there")]).n == 8


def test_of_very_many_ngrams_a_part_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contamination, "MAX_NGRAMS", 500)
    secrets = [words(120) for _ in range(20)]
    found = search(tmp_path, [row(words(120)) for _ in range(20)] + [row(each) for each in secrets], [
        row(words(120)) if n % 2 else row(secrets[n // 2]) for n in range(40)
    ])  # fmt: skip
    assert found.heldout_rows == 20
    assert found.offenders == [list(range(0, 40, 2))]


def test_a_long_text_is_looked_at_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "BATCH_CHARACTERS", 1000)
    secret = words(60)
    found = search(tmp_path, [row(secret)], [row(f"{words(300)} {secret} {words(300)}"), row(words(30))])
    assert found.offenders == [[0]]


def test_nothing_held_out_is_nothing_found(tmp_path: Path) -> None:
    assert search(tmp_path, [], [row(words(40))]).train_rows == 0


@given(st.lists(st.lists(st.sampled_from(["a", "bb", "ccc", "é", "漢"]), max_size=12), max_size=6), st.integers(1, 4))
def test_hashes_are_equal_where_ngrams_are(texts: list[list[str]], n: int) -> None:
    found, owners = ngrams.hashes([" ".join(text) for text in texts], n)
    expected = [(tuple(text[i : i + n]), owner) for owner, text in enumerate(texts) for i in range(len(text) - n + 1)]
    assert owners.tolist() == [owner for _, owner in expected]
    named: dict[int, tuple[str, ...]] = {}
    for value, (gram, _) in zip(found.tolist(), expected, strict=True):
        assert named.setdefault(value, gram) == gram
    assert len(named) == len({gram for gram, _ in expected})


def test_punctuation_and_case_do_not_count() -> None:
    one, _ = ngrams.hashes(["The Cat (sat) on_the mat."], 3)
    other, _ = ngrams.hashes(["  the cat, sat on the MAT"], 3)
    assert one.tolist() == other.tolist()
