"""Rows that say nearly the same are found; those that do not are left alone."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from largeforge.data import near

if TYPE_CHECKING:
    from pathlib import Path

WORDS = [f"w{random.Random(n).getrandbits(40):x}" for n in range(3000)]


def text(seed: int, length: int = 60) -> list[str]:
    return random.Random(seed).choices(WORDS, k=length)


def changed(words: list[str], count: int, seed: int = 0) -> list[str]:
    chance, found = random.Random(seed), list(words)
    for place in chance.sample(range(len(words)), count):
        found[place] = f"other{chance.getrandbits(30)}"
    return found


def write(path: Path, texts: list[list[str]]) -> Path:
    rows = [{"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": " ".join(t)}]} for t in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def found(tmp_path: Path, *files: list[list[str]], threshold: float = 0.8) -> list[list[int]]:
    paths = [write(tmp_path / f"{index}.jsonl", texts) for index, texts in enumerate(files)]
    marks = near.in_files(paths, tmp_path / "scratch", threshold=threshold)
    assert not (tmp_path / "scratch").exists()
    return [list(each) for each in marks]


def jaccard(one: list[str], other: list[str]) -> float:
    a, b = (
        {joined[i : i + near.SHINGLE_BYTES] for i in range(len(joined) - near.SHINGLE_BYTES + 1)}
        for joined in (" ".join(one), " ".join(other))
    )
    return len(a & b) / len(a | b)


def test_a_row_with_few_changes_is_a_repetition_and_the_first_one_stays(tmp_path: Path) -> None:
    first, second = text(1), text(2)
    [marks] = found(tmp_path, [first, second, changed(first, 1), [w.upper() for w in second], text(3)])
    assert marks == [0, 0, 1, 1, 0]


def test_rows_are_compared_across_files_in_their_order(tmp_path: Path) -> None:
    assert found(tmp_path, [text(1)], [text(2), changed(text(1), 1)], [changed(text(2), 1)]) == [[0], [0, 1], [1]]


def test_signatures_estimate_what_two_texts_have_in_common() -> None:
    first = text(7, 200)
    for count in (2, 5, 10, 20, 60):
        other = changed(first, count, seed=count)
        one, two = near.signature(" ".join(first)), near.signature(" ".join(other))
        assert float((one == two).mean()) == pytest.approx(jaccard(first, other), abs=0.14)  # three standard errors


def test_the_threshold_parts_near_from_far(tmp_path: Path) -> None:
    pairs = [(text(n, 100), changed(text(n, 100), 1 + n % 12, seed=n)) for n in range(150)]
    [marks] = found(tmp_path, [one for one, _ in pairs] + [other for _, other in pairs])
    assert not any(marks[:150])
    shares = [jaccard(*pair) for pair in pairs]
    assert all(is_near for is_near, share in zip(marks[150:], shares, strict=True) if share > 0.93)
    assert not any(is_near for is_near, share in zip(marks[150:], shares, strict=True) if share < 0.67)


def test_many_repetitions_of_one_row(tmp_path: Path) -> None:
    [marks] = found(tmp_path, [changed(text(1, 300), 1, seed=n) for n in range(500)])
    assert marks == [0] + [1] * 499


@pytest.mark.parametrize("texts", [[], [["a"]], [["a"], ["b"]], [["a"], ["a"]], [["é"], ["漢字"]]])
def test_short_and_few_rows(tmp_path: Path, texts: list[list[str]]) -> None:
    [marks] = found(tmp_path, texts)
    assert marks == [0, 1][: len(texts)] if texts == [["a"], ["a"]] else not any(marks)
