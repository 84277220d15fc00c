"""Rows of CSV files, JSON arrays and Parquet are the rows that were written."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.data import readers, tables
from largeforge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def rows(path: Path, content: str | bytes) -> list[tuple[int, Any]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(readers.read(path))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


@pytest.fixture
def array(tmp_path: Path) -> Path:
    return tmp_path / "rows.json"


def test_a_table_with_line_breaks_quotes_and_empty_cells(table: Path) -> None:
    text = 'prompt,response\r\n"a, ""b""\nc",d\n\n,e\n'
    assert rows(table, "\ufeff" + text) == [
        (2, {"prompt": 'a, "b"\nc', "response": "d"}),
        (5, {"prompt": None, "response": "e"}),
    ]


@pytest.mark.parametrize(
    ("name", "text"), [("rows.tsv", "a\tb,c\n1\t2;3\n"), ("rows.csv", "a;b,c\n"), ("rows.csv", "a;bc\n1;2\n")]
)
def test_delimiters(tmp_path: Path, name: str, text: str) -> None:
    found = rows(tmp_path / name, text)
    assert [row for _, row in found] == {
        "a\tb,c\n1\t2;3\n": [{"a": "1", "b,c": "2;3"}],
        "a;b,c\n": [],
        "a;bc\n1;2\n": [{"a": "1", "bc": "2"}],
    }[text]


def test_lists_in_cells_are_json(table: Path) -> None:
    found = rows(table, 'prompt,tools\n[1] is a list?,"[{""name"": ""f""}]"\n')
    assert found == [(2, {"prompt": "[1] is a list?", "tools": [{"name": "f"}]})]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"a,b\n1\n3,4\n", "1 cell in a table of 2 columns (a, b)"),
        (b"a,b\n1,2,3\n3,4\n", "3 cells in a table of 2 columns (a, b)"),
        (b"a,b\n1,\xff\n3,4\n", "not UTF-8; export the table as UTF-8, or convert it: iconv -f WINDOWS-1252 -t UTF-8"),
        (b'a,b\n"1"x,2\n3,4\n', "not CSV: ',' expected after '\"'"),
    ],
)
def test_reading_goes_on_after_a_bad_row(table: Path, text: bytes, fault: str) -> None:
    assert rows(table, text) == [(2, fault), (3, {"a": "3", "b": "4"})]


def test_two_columns_of_one_name(table: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.csv:1: two columns have one name: a, b, a"):
        rows(table, "a,b,a\n1,2,3\n")


@given(st.lists(st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)] * 2)))
def test_any_table_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]]
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("a", "b"), *cells])
    found = [row for _, row in rows(tmp_path_factory.getbasetemp() / "any.csv", text.getvalue())]
    assert found == [{"a": a or None, "b": b or None} for a, b in cells if a or b]


def test_an_array_has_the_lines_of_its_items(array: Path) -> None:
    found = rows(array, '\ufeff [\n  {"a": 1},\n\n  {"a":\n 2}, {"a": [3, "]"]}\n]\n')
    assert found == [(2, {"a": 1}), (4, {"a": 2}), (5, {"a": [3, "]"]})]
    assert rows(array, "[ ]") == []


def test_a_json_file_of_lines_is_read_as_lines(array: Path) -> None:
    assert rows(array, '{"a": 1}\n{"a": 2}\n') == [(1, {"a": 1}), (2, {"a": 2})]


@pytest.mark.parametrize(
    ("text", "line", "fault"),
    [
        (b'[{"a": 1},\n3]', 2, "a int (JSON), not an object"),
        (b'[{"a": 1},\nnull]', 2, "a null (JSON), not an object"),
        (b'[{"a": 1},\n{"a": }]', 2, "not JSON: Expecting value; what follows cannot be read"),
        (b'[{"a": 1}\n{"a": 2}]', 2, "not JSON: expecting ',' or ']'; what follows cannot be read"),
        (b'[{"a": 1},\n{"a": "', 2, "not JSON: Unterminated string starting at; what follows cannot be read"),
        (b'[{"a": 1}\n', 2, "not JSON: the array does not end; was the file cut off?; what follows cannot be read"),
    ],
)
def test_what_is_wrong_with_an_array_is_named(array: Path, text: bytes, line: int, fault: str) -> None:
    assert rows(array, text)[1:] == [(line, fault)]


def test_an_array_that_is_not_utf8(array: Path) -> None:
    [(_, fault)] = rows(array, b'[{"a": "\xff"}]')
    assert fault == "not UTF-8 here or in the lines below: byte 0xff"


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.lists(st.none()), max_size=3)))
def test_any_array_is_read_whatever_the_chunks(
    tmp_path_factory: pytest.TempPathFactory, items: list[dict[str, Any]]
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tables, "_CHUNK_CHARACTERS", 3)
        path = tmp_path_factory.getbasetemp() / "any.json"
        assert [row for _, row in rows(path, json.dumps(items, indent=1))] == items


def test_a_large_array_is_read_in_bounded_memory(array: Path) -> None:
    with array.open("w") as file:
        file.write("[" + ",\n".join(json.dumps({"n": n, "text": "x" * 1000}) for n in range(20_000)) + "]")
    tracemalloc.start()
    assert sum(1 for _ in readers.read(array)) == 20_000
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2 * 2**20 < array.stat().st_size


def test_arrow_leaves_no_nulls_in_tool_calls(tmp_path: Path) -> None:
    """Each row calls another tool; Arrow gives every call all arguments of all tools."""
    calls = [{"name": "a", "arguments": {"x": 1}}, {"name": "b", "arguments": {"y": {"z": "é"}}}, {"name": "c"}]
    given = [
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [{"function": call}]}]}
        for call in calls
    ]
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(given), path)
    assert [row for _, row in readers.read(path)] == given


def test_maps_are_objects_and_nulls_at_the_top_stay(tmp_path: Path) -> None:
    kind = pyarrow.map_(pyarrow.string(), pyarrow.int64())
    made = pyarrow.table({"a": pyarrow.array([[("x", 1)], None], kind), "b": [None, "text"]})
    pyarrow.parquet.write_table(made, tmp_path / "rows.parquet")
    found = [row for _, row in readers.read(tmp_path / "rows.parquet")]
    assert found == [{"a": {"x": 1}, "b": None}, {"a": None, "b": "text"}]
