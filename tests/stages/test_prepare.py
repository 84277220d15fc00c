"""The stage `prepare`, from files to files."""

from __future__ import annotations

import ctypes
import errno
import io
import json
import os
import subprocess
import sys
import tracemalloc
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pyarrow
import pyarrow.parquet
import pytest

from largeforge.data import writers
from largeforge.errors import DataError, StageError
from largeforge.events import Events, decode
from largeforge.recipe.schema import Dataset
from largeforge.stages import prepare
from largeforge.stages.context import Context, Result

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Stage:
    """Runs `prepare` in a temporary folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.out = folder / "out"
        self.out.mkdir()
        self.stream = io.StringIO()

    def file(self, name: str, rows: list[Any]) -> Path:
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def run(self, path: Path, *, kind: str = "sft", **dataset: Any) -> Result:
        config = prepare.Config.model_validate({"dataset": {"path": str(path), **dataset}, "kind": kind})
        events = Events("prepare", self.stream)
        return prepare.run(config, Context("prepare", {}, self.out, self.folder, events, ""))

    def rows(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / name).read_bytes().decode().splitlines()]

    def events(self, kind: str) -> list[dict[str, Any]]:
        found = (decode(line) for line in self.stream.getvalue().splitlines())
        return [event for event in found if event and event["kind"] == kind]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def pairs(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"Question {index}?", "response": f"Answer {index}."} for index in range(count)]


def turns(*contents: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[index % 2], "content": text} for index, text in enumerate(contents)]}


def test_rows_are_split_normalised_and_counted(stage: Stage) -> None:
    result = stage.run(stage.file("t.jsonl", pairs(200)), heldout_fraction=0.1)
    train, heldout = stage.rows("train.jsonl"), stage.rows("heldout.jsonl")
    assert len(train) + len(heldout) == 200
    assert 5 < len(heldout) < 40
    assert train[0] == {**turns("Question 0?", "Answer 0."), "source": "t.jsonl:1"}
    assert {row["source"] for row in train + heldout} == {f"t.jsonl:{line}" for line in range(1, 201)}
    assert result.metrics["train_rows"] == len(train)
    assert result.metrics["heldout_rows"] == len(heldout)
    assert result.metrics["train_characters"] + result.metrics["heldout_characters"] == sum(
        len(row["prompt"]) + len(row["response"]) for row in pairs(200)
    )
    assert result.info["format"] == "prompt_response"


def test_the_digests_are_those_of_the_files(stage: Stage) -> None:
    result = stage.run(stage.file("t.jsonl", pairs(50)))
    for name, digest in result.info["sha256"].items():
        assert sha256((stage.out / name).read_bytes()).hexdigest() == digest


def test_the_same_input_gives_the_same_bytes(stage: Stage) -> None:
    path = stage.file("t.jsonl", pairs(100))
    first = stage.run(path)
    (stage.folder / "elsewhere").mkdir()
    moved = path.rename(stage.folder / "elsewhere" / "t.jsonl")
    assert stage.run(moved).info == first.info


def test_the_order_of_keys_does_not_matter(stage: Stage) -> None:
    row = {"messages": [{"content": "a", "role": "user"}, {"content": "b", "role": "assistant", "id": 3}], "id": 1}
    stage.run(stage.file("t.jsonl", [row]), heldout_fraction=0)
    line = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"source":"t.jsonl:1"}\n'
    assert (stage.out / "train.jsonl").read_text() == line


def test_text_survives_byte_for_byte(stage: Stage) -> None:
    text = 'é 汉 😀 \u2028 \x00 \\ " \x7f'
    stage.run(stage.file("t.jsonl", [{"prompt": text, "response": text}]), heldout_fraction=0)
    lines = (stage.out / "train.jsonl").read_bytes().split(b"\n")
    assert json.loads(lines[0])["messages"][1]["content"] == text
    assert lines[1:] == [b""]


def test_preference_rows(stage: Stage) -> None:
    path = stage.file("t.jsonl", [{"prompt": f"p{index}", "chosen": "a", "rejected": "b"} for index in range(40)])
    result = stage.run(path, kind="preference", system="Be brief.", heldout_fraction=0.2)
    row = stage.rows("train.jsonl")[0]
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert row["chosen"] == [{"role": "assistant", "content": "a"}]
    assert result.info["format"] == "preference"


def test_a_preference_file_for_sft_is_refused(stage: Stage) -> None:
    path = stage.file("t.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"}])
    with pytest.raises(DataError, match="rows of the form preference, which are for methods that compare answers"):
        stage.run(path)
    assert not list(stage.out.iterdir())


def test_bad_rows_are_refused_with_their_places(stage: Stage) -> None:
    rows = [*pairs(100), {"prompt": "x", "response": " "}, *pairs(100), [], *pairs(3)]
    with pytest.raises(DataError) as caught:
        stage.run(stage.file("t.jsonl", rows))
    assert "  t.jsonl:101: response = ' ': only white space\n  t.jsonl:202: a list, not an object" in str(caught.value)


def test_parquet_and_jsonl_give_the_same_rows(stage: Stage) -> None:
    jsonl = stage.run(stage.file("t", pairs(300)))
    path = stage.folder / "t"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(pairs(300)), path)
    assert stage.run(path).info == jsonl.info


def test_max_rows(stage: Stage) -> None:
    stage.run(stage.file("t.jsonl", pairs(100)), max_rows=7, heldout_fraction=0)
    assert [row["source"] for row in stage.rows("train.jsonl")] == [f"t.jsonl:{line}" for line in range(1, 8)]


def test_nothing_held_out_on_purpose(stage: Stage) -> None:
    result = stage.run(stage.file("t.jsonl", pairs(10)), heldout_fraction=0)
    assert (stage.out / "heldout.jsonl").read_bytes() == b""
    assert result.metrics["heldout_rows"] == 0
    assert len(stage.events("note")) == 1


def test_nothing_held_out_by_chance_is_noted(stage: Stage) -> None:
    stage.run(stage.file("t.jsonl", pairs(3)), heldout_fraction=0.0001)
    assert stage.events("note")[-1]["text"] == (
        "no row of t.jsonl is held out: 3 rows are too few for heldout_fraction = 0.0001"
    )


def test_everything_held_out_is_refused(stage: Stage) -> None:
    path = stage.file("t.jsonl", [{"prompt": "p", "response": "r"}] * 3)
    with pytest.raises(DataError, match="no rows are left to train on, since 3 are held out at"):
        stage.run(path, heldout_fraction=0.9999999)


def test_a_given_heldout_file_is_taken_whole(stage: Stage) -> None:
    train, heldout = stage.file("t.jsonl", pairs(20)), stage.file("h.jsonl", [turns("Other?", "Yes.")])
    result = stage.run(train, heldout_path=str(heldout))
    assert result.metrics["train_rows"] == 20
    assert [row["source"] for row in stage.rows("heldout.jsonl")] == ["h.jsonl:1"]


def test_training_on_given_heldout_prompts_is_refused(stage: Stage) -> None:
    train = stage.file("t.jsonl", pairs(20))
    heldout = stage.file("h.jsonl", [{"prompt": "New?", "response": "x"}, {"prompt": "question  3? ", "response": "x"}])
    with pytest.raises(DataError) as caught:
        stage.run(train, heldout_path=str(heldout))
    assert str(caught.value).startswith(
        f"1 row of {train} with a prompt that is held out in {heldout}:\n  t.jsonl:4: has the prompt of h.jsonl:2\n"
    )


def test_given_heldout_prompts_in_earlier_turns_are_noted(stage: Stage) -> None:
    train = stage.file("t.jsonl", [turns("a", "b", "c", "d"), turns("e", "f")])
    result = stage.run(train, heldout_path=str(stage.file("h.jsonl", [turns("A", "b")])))
    assert result.metrics["train_rows"] == 2
    assert stage.events("note")[0]["text"].startswith("rows of t.jsonl with a held-out prompt in an earlier turn: 1 ")


def test_a_split_removes_conversations_that_answer_a_heldout_prompt(stage: Stage) -> None:
    rows = [row for index in range(200) for row in (turns(f"q{index}", "a"), turns(f"q{index}", "a", "more", "b"))]
    result = stage.run(stage.file("t.jsonl", rows), heldout_fraction=0.2)
    train, heldout = stage.rows("train.jsonl"), stage.rows("heldout.jsonl")
    asked = {row["messages"][0]["content"] for row in heldout if len(row["messages"]) == 2}
    removed = 400 - len(train) - len(heldout)
    assert removed > 10
    assert not any(row["messages"][0]["content"] in asked for row in train)
    assert stage.events("note")[1]["text"].endswith(
        f"with a held-out prompt in an earlier turn, removed from training: {removed}"
    )
    assert result.metrics["train_rows"] == len(train)
    assert result.metrics["train_characters"] == sum(len(m["content"]) for row in train for m in row["messages"])
    assert result.info["sha256"]["train.jsonl"] == sha256((stage.out / "train.jsonl").read_bytes()).hexdigest()
    assert sorted(path.name for path in stage.out.iterdir()) == ["heldout.jsonl", "train.jsonl"]


def test_the_same_prompt_is_never_on_both_sides(stage: Stage) -> None:
    rows = [{"prompt": f" QUESTION {index % 50}" if index % 2 else f"question {index % 50}", "response": str(index)}
            for index in range(400)]  # fmt: skip
    stage.run(stage.file("t.jsonl", rows), heldout_fraction=0.3)
    train, heldout = (
        {row["messages"][0]["content"].strip().lower() for row in stage.rows(name)}
        for name in ("train.jsonl", "heldout.jsonl")
    )
    assert train and heldout and not train & heldout


def test_a_big_file_is_read_in_bounded_memory_with_progress(stage: Stage) -> None:
    path = stage.folder / "t.jsonl"
    with path.open("w") as file:
        for index in range(60_000):
            file.write(json.dumps({"prompt": f"Question {index}?", "response": "x" * 500}) + "\n")
    tracemalloc.start()
    result = stage.run(path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.metrics["train_rows"] + result.metrics["heldout_rows"] == 60_000
    assert peak_bytes < 20 * 2**20 < path.stat().st_size
    progress = stage.events("progress")
    assert [event["step"] for event in progress] == [20_000, 40_000, 60_000]
    assert {(event["total"], event["unit"]) for event in progress} == {(60_000, "rows")}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, b"size=64k") != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder
    libc.umount2(os.fsencode(folder), 2)


def test_a_full_disk_is_a_clear_error(stage: Stage, small_disk: Path) -> None:
    path = stage.file("t.jsonl", pairs(5000))
    needed = f"{path.stat().st_size / 2**20:.1f} MiB"
    stage.out = small_disk
    with pytest.raises(StageError) as caught:
        stage.run(path)
    assert str(caught.value) == (
        f"{small_disk / 'train.jsonl'} cannot be written: no space left on its disk (0.0 MiB free) after 0.1 MiB; "
        f"the prepared rows need about {needed} in {small_disk}"
    )


def test_a_disk_that_fills_up_at_the_last_byte(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullFile(io.RawIOBase):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    open_writer = writers.RowWriter.__init__

    def full(self: writers.RowWriter, path: Path, **options: Any) -> None:
        open_writer(self, path, **options)
        self._file.close()
        self._file = FullFile()

    monkeypatch.setattr(writers.RowWriter, "__init__", full)
    with pytest.raises(StageError, match=r"heldout\.jsonl cannot be written: no space left on its disk"):
        stage.run(stage.file("t.jsonl", pairs(100)), heldout_fraction=0.2)


def test_an_output_folder_that_cannot_be_written(stage: Stage) -> None:
    stage.out = stage.folder / "missing"
    with pytest.raises(StageError, match=r"missing/train\.jsonl does not exist"):
        stage.run(stage.file("t.jsonl", pairs(3)))


def test_the_stage_needs_no_torch() -> None:
    code = "import sys, largeforge.stages.prepare; sys.exit('torch' in sys.modules or 'pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_config_is_strict() -> None:
    dataset = Dataset(path="/x")
    with pytest.raises(ValueError, match="extra"):
        prepare.Config(dataset=dataset, kind="sft", colour="red")


def test_a_split_that_holds_nothing_out_is_an_error_before_training_when_the_model_is_to_be_judged(
    stage: Stage,
) -> None:
    path = stage.file("few.jsonl", pairs(3))
    config = {"dataset": {"path": str(path), "heldout_fraction": 1e-9}, "kind": "sft", "judged": True}
    context = Context("prepare", {}, stage.out, stage.folder, Events("prepare", stage.stream), "")
    with pytest.raises(DataError, match=r"none of its 3 rows is held out .* dataset.heldout_fraction=0.3"):
        prepare.run(prepare.Config.model_validate(config), context)
    assert stage.run(path, heldout_fraction=1e-9).metrics["heldout_rows"] == 0
