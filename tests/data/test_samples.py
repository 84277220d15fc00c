"""Samples of large files: the same each time, from everywhere, without half a row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.data.samples import sample
from largeforge.errors import DataError


def write(path: Path, rows: int, width: int = 20) -> Path:
    path.write_text("".join(json.dumps({"n": n, "text": "x" * (n % width)}) + "\n" for n in range(rows)))
    return path


def test_a_small_file_is_read_whole(tmp_path: Path) -> None:
    found = sample(write(tmp_path / "a.jsonl", 50), max_bytes=10_000)
    assert [row["n"] for row in found.rows if isinstance(row, dict)] == list(range(50))
    assert (found.total_rows, found.is_whole) == (50, True)


def test_a_large_file_gives_whole_rows_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", 20_000)
    found = sample(path, max_bytes=50_000)
    numbers = [row["n"] for row in found.rows if isinstance(row, dict)]
    assert len(numbers) == len(found.rows)  # no half row
    assert (found.total_rows, found.is_whole) == (20_000, False)
    assert numbers[0] == 0
    assert numbers[-1] > 19_000
    assert 1000 < len(numbers) < 3000
    assert found == sample(path, max_bytes=50_000)


def test_the_rows_of_a_huge_file_are_extrapolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("largeforge.data.samples.COUNTED_BYTES", 1000)
    found = sample(write(tmp_path / "a.jsonl", 20_000), max_bytes=50_000)
    assert found.total_rows == pytest.approx(20_000, rel=0.05)


def test_only_the_first_rows_count_where_the_recipe_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", 20_000)
    few = sample(path, max_bytes=50_000, max_rows=10)
    assert [row["n"] for row in few.rows if isinstance(row, dict)] == list(range(10))
    assert (few.total_rows, few.is_whole) == (10, True)
    many = sample(path, max_bytes=50_000, max_rows=15_000)
    assert (many.total_rows, many.is_whole) == (15_000, False)
    assert [row["n"] for row in many.rows if isinstance(row, dict)][:3] == [0, 1, 2]
    assert sample(path, max_bytes=10**7, max_rows=15_000).total_rows == 15_000


def test_rows_that_are_none_are_marked(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("not json\n" * 2000)
    assert set(sample(path, max_bytes=1000).rows) == {"not JSON"}


@pytest.mark.parametrize("name", ["missing.jsonl", "empty.jsonl", "packed.jsonl", "fake.parquet"])
def test_a_file_that_cannot_be_read_is_an_error_with_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "packed.jsonl").write_bytes(b"\x1f\x8b" + bytes(20))
    (tmp_path / "fake.parquet").write_bytes(b"PAR1" + bytes(20))
    with pytest.raises(DataError, match=name):
        sample(tmp_path / name, max_bytes=1000)


def test_parquet_is_sampled_from_several_row_groups(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"n": list(range(50_000))}), path, row_group_size=5000)
    found = sample(path, max_bytes=1000)
    numbers = [row["n"] for row in found.rows if isinstance(row, dict)]
    assert (found.total_rows, found.is_whole) == (50_000, False)
    assert min(numbers) == 0
    assert max(numbers) > 35_000
    assert sample(path, max_bytes=1000, max_rows=700).rows == [{"n": n} for n in range(700)]


@given(st.lists(st.text(max_size=80), min_size=1, max_size=300), st.integers(100, 5000))
def test_every_row_of_a_sample_is_a_row_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], max_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("sample") / "a.jsonl"
    rows = [{"text": text} for text in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = sample(path, max_bytes=max_bytes)
    assert all(row in rows for row in found.rows)
    assert found.total_rows == len(rows)
    assert found.is_whole == (len(found.rows) == len(rows)) or not found.is_whole
