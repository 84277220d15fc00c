"""Every way in which a file can be bad is named with its place."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING

import pyarrow
import pyarrow.parquet
import pytest

from largeforge.data import readers
from largeforge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def lines(path: Path, content: bytes) -> list[tuple[int, object]]:
    path.write_bytes(content)
    return list(readers.read(path))


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        list(readers.read(path))
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def test_rows_keep_their_line_numbers(file: Path) -> None:
    assert lines(file, b'{"a":1}\n\n  \r\n{"a":2}\r\n{"a":3}') == [(1, {"a": 1}), (4, {"a": 2}), (5, {"a": 3})]


def test_a_byte_order_mark_is_accepted(file: Path) -> None:
    assert lines(file, b'\xef\xbb\xbf{"a":"\xc3\xa9"}\n') == [(1, {"a": "é"})]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"a": "\xff"}', "not UTF-8: byte 8 of the line is 0xff"),
        (b'{"a": 1,}', "not JSON: column 9: Expecting property name enclosed in double quotes"),
        (b'{"a": 1', "not JSON: column 8: Expecting ',' delimiter"),
        (b'{"a": 1} {"a": 2}', "not JSON: column 10: Extra data"),
        (b"a,b,c", "not JSON: column 1: Expecting value"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON: column 1: Unexpected UTF-8 BOM (decode using utf-8-sig)"),
        (b'[{"a": 1}]', "a list, not an object; JSONL wants one object a line, not one array around them"),
        (b'"text"', "a str (JSON), not an object"),
        (b"null", "a null (JSON), not an object"),
        (b"1" * 5000, "not usable JSON: Exceeds the limit (4300 digits) for integer string conversion: value has"),
        (b"[" * 200_000, "not usable JSON: nested too deep"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_a_bad_line_has_its_reason_and_the_next_is_read(file: Path, bad: bytes, reason: str) -> None:
    first, second, third = lines(file, b'{"a":0}\n' + bad + b'\n{"a":9}\n')
    assert (first, third) == ((1, {"a": 0}), (3, {"a": 9}))
    assert second[0] == 2
    assert str(second[1]).startswith(reason)


def test_a_file_that_was_cut_off_says_so(file: Path) -> None:
    assert lines(file, b'{"a":1}\n{"a":')[1] == (
        2,
        "not JSON: column 6: Expecting value (the last line; was the file cut off?)",
    )


def test_utf_16_is_suspected(file: Path) -> None:
    reason = "not UTF-8: byte 1 of the line is 0xff (is it UTF-16?)"
    assert lines(file, '{"a":1}'.encode("utf-16"))[0] == (1, reason)


def test_a_line_over_the_limit_is_skipped_in_bounded_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "LINE_LIMIT_BYTES", 2**20)
    with file.open("wb") as stream:
        stream.write(b'{"a":"')
        for _ in range(64):
            stream.write(b"x" * 2**20)
        stream.write(b'"}\n{"a":1}\n')
    tracemalloc.start()
    found = list(readers.read(file))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [(1, "the line is longer than 1 MiB"), (2, {"a": 1})]
    assert peak_bytes < 8 * 2**20


def test_a_line_at_the_limit_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "LINE_LIMIT_BYTES", 8)
    assert lines(file, b'{"a":1}\n{"a":12}\n{"a":3}') == [
        (1, {"a": 1}),
        (2, "the line is longer than 0 MiB"),
        (3, {"a": 3}),
    ]


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}")
    path = tmp_path / "trian.jsonl"
    assert refusal(path) == f"{path} does not exist. Did you mean 'train.jsonl'?"


def test_a_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "no" / "train.jsonl"
    assert refusal(path) == f"{path} does not exist"


def test_a_file_in_place_of_a_folder(file: Path) -> None:
    file.write_text("{}")
    assert refusal(file / "x.jsonl") == f"{file / 'x.jsonl'} does not exist: a part of its path is a file"


def test_a_directory(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path} is a directory, not a file"


def test_a_pipe_is_refused_rather_than_waited_for(file: Path) -> None:
    os.mkfifo(file)
    assert refusal(file) == f"{file} is not a regular file"


def test_an_empty_file(file: Path) -> None:
    file.touch()
    assert refusal(file) == f"{file} is empty"


def test_permission_denied(file: Path) -> None:
    file.write_text("{}")
    file.chmod(0)
    user = os.geteuid()
    if user == 0:
        for folder in list(file.parents)[:3]:
            folder.chmod(0o755)
        os.seteuid(65534)
    try:
        assert refusal(file) == f"{file} cannot be opened: permission denied"
    finally:
        os.seteuid(user)


def test_parquet_rows_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows = [{"prompt": f"p{index}", "response": "r"} for index in range(600)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=100)
    assert list(readers.read(path)) == list(enumerate(rows, start=1))
    assert readers.count_rows(path) == 600


def test_a_broken_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": list(range(1000))}), path)
    path.write_bytes(path.read_bytes()[:-20])
    assert refusal(path).startswith(f"{path}:1: broken Parquet file: ")


def test_a_name_that_promises_parquet(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_text('{"a":1}\n')
    assert refusal(path) == f"{path} is not a Parquet file: it does not begin with PAR1"


@pytest.mark.parametrize(("content", "rows"), [(b"{}\n{}\n", 2), (b"{}\n{}", 2), (b"{}", 1)])
def test_rows_are_counted_without_parsing(file: Path, content: bytes, rows: int) -> None:
    file.write_bytes(content)
    assert readers.count_rows(file) == rows


def test_a_failing_disk_is_a_data_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> readers.Rows:
        raise OSError(5, "Input/output error")
        yield 0, {}

    file.write_text("{}")
    monkeypatch.setattr(readers, "_objects", fail)
    assert refusal(file) == f"{file} cannot be read or written: the device reports an input/output error"
