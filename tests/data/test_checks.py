"""All problems of a file come in one message that shows the first ten and what is allowed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from largeforge.data import formats
from largeforge.data.checks import CheckedSource
from largeforge.errors import DataError
from largeforge.files.content import local_files
from largeforge.recipe.schema import Source

if TYPE_CHECKING:
    from pathlib import Path

GOOD = '{"prompt": "Hi", "response": "Hello!"}'


def checked(path: Path | list[Path], kind: formats.Kind = "sft", **keys: Any) -> CheckedSource:
    paths = [str(each) for each in path] if isinstance(path, list) else str(path)
    source = Source(path=paths, **keys)
    return CheckedSource(source, local_files(source.path) or [], kind)


def refusal(path: Path | list[Path], kind: formats.Kind = "sft", **keys: Any) -> str:
    with pytest.raises(DataError) as caught:
        list(checked(path, kind, **keys).rows())
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "t.jsonl"


def test_all_problems_at_once_in_the_order_of_the_file(file: Path) -> None:
    lines = [GOOD, '{"prompt": "Hi"}', "{", '{"messages": []}', GOOD]
    file.write_text("\n".join(lines))
    assert refusal(file) == (
        f"3 rows of {file} cannot be used:\n"
        "  t.jsonl:2: response is missing; the row has the keys 'prompt'\n"
        "  t.jsonl:3: not JSON: column 2: Expecting property name enclosed in double quotes\n"
        "  t.jsonl:4: a row of the form messages in a file of the form prompt_response\n"
        "Allowed, one object a line:\n"
        + "\n".join(f"  {form}: {formats.EXAMPLES[form]}" for form in formats.forms_for("sft"))
    )


def test_only_the_first_ten_are_shown(file: Path) -> None:
    file.write_text("{}\n" * 1000)
    message = refusal(file)
    assert message.startswith(f"1000 rows of {file} cannot be used:\n  t.jsonl:1: ")
    assert "t.jsonl:10: " in message
    assert "t.jsonl:11: " not in message
    assert "... and 990 more" in message


def test_one_odd_row_at_the_top_is_the_odd_one(file: Path) -> None:
    file.write_text('{"messages": [{"role": "user", "content": "a"}]}\n' + f"{GOOD}\n" * 5)
    assert "  t.jsonl:1: a row of the form messages in a file of the form prompt_response" in refusal(file)


def test_blank_lines_are_not_rows(file: Path) -> None:
    file.write_text("\n \n\n")
    assert refusal(file).startswith(f"{file} has no rows\nAllowed")


def test_user_data_is_shown_in_part_only(file: Path) -> None:
    file.write_text(json.dumps({"messages": [{"role": "secret" * 1000, "content": "b"}]}))
    assert max(map(len, refusal(file).splitlines())) < 200


def test_the_kind_of_method_must_fit(file: Path) -> None:
    file.write_text(formats.EXAMPLES["preference"])
    assert refusal(file, "sft").startswith(
        f"{file} holds rows of the form preference, which are for methods that compare answers (dpo, orpo and the "
        "like); this job's method is one of the methods that imitate answers (sft and the like)\nAllowed"
    )
    file.write_text(GOOD)
    message = refusal(file, "preference")
    assert "holds rows of the form prompt_response, which are for methods that imitate answers" in message
    assert message.endswith(f"  preference: {formats.EXAMPLES['preference']}")


def test_a_given_form_is_held(file: Path) -> None:
    file.write_text(GOOD)
    assert "t.jsonl:1: a row of the form prompt_response in a file of the form messages" in refusal(
        file, format="messages"
    )


def test_rows_after_max_rows_are_not_even_checked(file: Path) -> None:
    file.write_text(f"{GOOD}\n{GOOD}\n" + "{\n")
    first = checked(file, max_rows=2)
    assert [source for source, _ in first.rows()] == ["t.jsonl:1", "t.jsonl:2"]
    assert first.count_rows() == 2
    assert refusal(file, max_rows=3).startswith("1 row of ")


PIECES = st.sampled_from([b"{", b"}", b"[", b'"', b":", b",", b"\n", b"\r\n", b"\\ud800", b"\xff", b"\xef\xbb\xbf"]) | (
    st.sampled_from([GOOD.encode(), b"PAR1", b'{"messages":[{"role":"user","content":"\\ud800"}]}', b"1e999", b"NaN"])
)


@given(st.binary(max_size=200) | st.lists(PIECES, max_size=30).map(b"".join), st.sampled_from(["sft", "preference"]))
@example(b"PAR1PAR1", "sft")
@example(b'{"prompt": "a\\udc00", "response": "b"}', "sft")
def test_any_bytes_are_rows_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, kind: formats.Kind
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(content)
    try:
        rows = list(checked(path, kind, system="Be brief.").rows())
    except DataError as error:
        assert str(path) in str(error)
        return
    assert rows
    json.dumps(rows, ensure_ascii=False).encode()


def test_columns_to_slice_by_are_kept_beside_the_row(file: Path) -> None:
    lines = [
        {"question": "Hi", "reply": "Hello", "language": "en", "score": 3, "other": 1},
        {"question": "Hallo", "reply": "Guten Tag", "language": "de", "score": None},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    columns = {"prompt": "question", "response": "reply"}
    rows = [row for _, row in checked(file, columns=columns, slices=["language", "score"]).rows()]
    assert [row["slices"] for row in rows] == [{"language": "en", "score": "3"}, {"language": "de"}]
    assert set(rows[0]) == {"messages", "slices"}
    said = refusal(file, columns=columns, slices=["langauge"])
    assert "dataset.slices.0 = 'langauge': no such column" in said and "Did you mean 'language'?" in said
