"""A mixture has the shares that its weights ask for, everywhere in the file, and changes little when rows are added."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.data import mixing
from largeforge.data.writers import RowWriter
from largeforge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def mixed(folder: Path, rows: dict[str, int], weights: dict[str, float], total: int = 0) -> list[dict[str, Any]]:
    sources = {}
    for name, count in rows.items():
        with RowWriter(folder / f"{name}.jsonl") as sources[name]:
            for number in range(count):
                sources[name].write({"text": f"{name} {number}"}, f"{name}/x.jsonl:{number + 1}")
    with RowWriter(folder / "train.jsonl") as output:
        mixing.mix(sources, mixing.portions(rows, weights, total), output)
    found = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert list(output.lengths) == [len(row["text"]) for row in found]
    return found


def names(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(row["source"].partition("/")[0] for row in rows)


def test_without_weights_each_row_comes_once(tmp_path: Path) -> None:
    found = mixed(tmp_path, {"a": 30, "b": 10}, {"a": 0, "b": 0})
    assert len({row["text"] for row in found}) == len(found) == 40
    assert names(found[:20]) == {"a": 15, "b": 5}


def test_a_small_source_is_repeated_and_a_large_one_cut(tmp_path: Path) -> None:
    found = mixed(tmp_path, {"small": 10, "large": 90}, {"small": 3, "large": 1})
    assert names(found) == {"small": 75, "large": 25}
    counts = Counter(row["text"] for row in found if row["text"].startswith("small"))
    assert len(counts) == 10
    assert set(counts.values()) == {7, 8}
    assert max(Counter(row["text"] for row in found if row["text"].startswith("large")).values()) == 1


def test_every_stretch_has_about_the_shares_of_the_whole(tmp_path: Path) -> None:
    found = mixed(tmp_path, {"a": 500, "b": 50, "c": 70}, {"a": 0.5, "b": 0.3, "c": 0.2}, 1000)
    assert names(found) == {"a": 500, "b": 300, "c": 200}
    for start in range(0, 1000, 100):
        stretch = names(found[start : start + 100])
        assert all(abs(stretch[name] - share) <= 1 for name, share in {"a": 50, "b": 30, "c": 20}.items())


def test_adding_rows_changes_few_of_those_that_are_taken(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    before = {row["text"] for row in mixed(tmp_path / "one", {"a": 1000, "b": 100}, {"a": 1, "b": 1}, 200)}
    after = {row["text"] for row in mixed(tmp_path / "two", {"a": 1050, "b": 100}, {"a": 1, "b": 1}, 200)}
    assert len(before & after) >= 190


def test_a_source_without_rows_has_no_share() -> None:
    with pytest.raises(DataError, match=r"dataset\.mix\.b: it has a weight, and no rows are left"):
        mixing.portions({"a": 3, "b": 0}, {"a": 1, "b": 1}, 0)
    assert [part.gives for part in mixing.portions({"a": 3, "b": 0}, {"a": 0, "b": 0}, 0)] == [3, 0]


@given(
    st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 1000), st.floats(0.01, 100)), min_size=1),
    st.integers(1, 10_000),
)
def test_portions_add_up_to_the_whole(sources: dict[str, tuple[int, float]], total: int) -> None:
    weights = {name: weight for name, (_, weight) in sources.items()}
    parts = mixing.portions({name: rows for name, (rows, _) in sources.items()}, weights, total)
    assert sum(part.gives for part in parts) == total
    for part in parts:
        assert abs(part.gives - total * weights[part.name] / sum(weights.values())) < 1 + 1e-6
