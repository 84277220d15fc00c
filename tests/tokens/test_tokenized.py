"""Files are tokenized once, in order, by any number of processes, and never believed when damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from largeforge.errors import DataError, StageError
from largeforge.tokens import engine, pool, rows, store, tokenized
from largeforge.tokens.parts import Wanted
from tests.tokens.tokenizers import SPECIAL, STYLES, byte_level

SFT = Wanted("sft", "completion", 200)
CORE = byte_level(SPECIAL).to_str()


def made(template: str = STYLES["chatml"]) -> engine.FastEngine:
    return engine.FastEngine(engine.Spec(CORE, template, "", {"eos_token": "<|im_end|>"}))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    return tmp_path


def write(path: Path, count: int) -> Path:
    with path.open("w") as file:
        for number in range(count):
            messages = [
                {"role": "user", "content": f"Question {number}?"},
                {"role": "assistant", "content": f"Answer {number}." * (1 + number % 3)},
            ]
            file.write(json.dumps({"messages": messages, "source": f"f.jsonl:{number + 1}"}) + "\n")
    return path


def run(path: Path, *, work: Path, wanted: Wanted = SFT, **options: Any) -> tokenized.Tokenized:
    given = options.get("engine") or made()
    return tokenized.tokenized(path, given, wanted, work=work, report=lambda done, total: None)


def table(found: tokenized.Tokenized) -> Any:
    with pyarrow.memory_map(str(found.data)) as file:
        return pyarrow.ipc.open_stream(file).read_all()


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("it was made again")


def test_it_is_made_once_and_found_by_content(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(write(here / "a.jsonl", 50), work=here / "one")
    assert first.lengths.rows == 50
    assert table(first).column_names == ["input_ids", "labels"]
    monkeypatch.setattr(tokenized, "_write", never)
    again = run(write(here / "b.jsonl", 50), work=here / "two")  # another run, the same content
    assert again.lengths == first.lengths
    assert again.histogram == first.histogram
    assert table(again) == table(first)
    assert again.data.is_relative_to(here / "two")
    for change in (
        {"engine": made(STYLES["llama"])}, {"wanted": Wanted("sft", "all", 200)},
    ):  # fmt: skip
        with pytest.raises(AssertionError, match="made again"):
            run(here / "a.jsonl", work=here / "one", **change)
    with pytest.raises(AssertionError, match="made again"):
        run(write(here / "a.jsonl", 51), work=here / "one")


def test_another_limit_needs_no_other_tokens_but_is_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(here / "a.jsonl", 50)
    first = run(path, work=here)
    monkeypatch.setattr(tokenized, "_write", never)
    longer = Wanted("sft", "completion", first.lengths.max)
    assert run(path, work=here, wanted=longer).lengths == first.lengths
    with pytest.raises(DataError) as failure:
        run(path, work=here, wanted=Wanted("sft", "completion", first.lengths.max - 1))
    assert "f.jsonl:" in str(failure.value)
    assert f"the longest row needs {first.lengths.max}" in str(failure.value)


@pytest.mark.parametrize("damage", ["flip", "cut", "entry", "no data"])
def test_a_damaged_entry_is_made_again(here: Path, damage: str) -> None:
    path = write(here / "a.jsonl", 50)
    first = run(path, work=here / "one")
    expected = table(first).to_pylist()
    data = next((here / "cache/largeforge/tokens").glob("*/data.arrow"))
    content = bytearray(data.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        data.write_bytes(content)
    elif damage == "cut":
        data.write_bytes(content[:-8])
    elif damage == "entry":
        (data.parent / "entry.json").write_text("{")
    else:
        data.unlink()
    assert table(run(path, work=here / "two")).to_pylist() == expected


def test_bad_rows_leave_nothing_behind(here: Path) -> None:
    path = write(here / "a.jsonl", 20)
    with pytest.raises(DataError, match="20 rows longer than max_length = 5"):
        run(path, work=here, wanted=Wanted("sft", "completion", 5))
    with pytest.raises(DataError, match=r"(?s)20 rows cannot be written out.*f.jsonl:1: the chat template refuses"):
        run(path, work=here, engine=made("{{ raise_exception('no') }}"))
    assert not list(here.rglob("*.arrow*"))


def test_processes_make_what_one_makes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(here / "a.jsonl", 3000)
    monkeypatch.setattr(pool, "PART_BYTES", 20_000)
    alone = [part for part, _ in pool.parts(path, made(), SFT, processes=1)]
    monkeypatch.setattr(pool, "ALONE_BYTES", 0)
    together = [part for part, _ in pool.parts(path, made(), SFT, processes=3)]
    assert len(together) > 10
    assert together == alone


def test_a_killed_process_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(here / "a.jsonl", 3000)
    monkeypatch.setattr(pool, "PART_BYTES", 20_000)
    monkeypatch.setattr(pool, "ALONE_BYTES", 0)
    broken = made()
    object.__setattr__(broken.spec, "tokenizer", "{}")
    with pytest.raises(StageError, match="a process that tokenizes ended with exit code 1"):
        list(pool.parts(path, broken, SFT, processes=2))


def test_old_entries_make_room(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = here / "cache/largeforge/tokens"
    for count in (10, 11, 12):
        run(write(here / f"{count}.jsonl", count), work=here / "work")
    entries = sorted(folder.glob("*/entry.json"), key=lambda path: path.stat().st_mtime_ns)
    old = time.time() - 31 * 86400
    os.utime(entries[0], (old, old))
    run(write(here / "13.jsonl", 13), work=here / "work")
    assert not entries[0].exists()
    assert entries[1].exists()
    monkeypatch.setattr(store, "SHARE_OF_DISK", 0.0)
    newest = run(write(here / "14.jsonl", 14), work=here / "work")
    assert [path.parent.name for path in folder.glob("*/entry.json")] == [newest.data.parent.name]
    assert table(run(here / "12.jsonl", work=here / "work")).num_rows == 12


def test_without_a_cache_the_run_keeps_its_own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "cache").write_text("no folder")
    found = run(write(here / "a.jsonl", 10), work=here / "work")
    assert found.lengths.rows == 10
    assert list((here / "work/tokens").glob("*/data.arrow"))


def test_two_at_once_make_it_once(here: Path) -> None:
    path = write(here / "a.jsonl", 400)
    program = f"""
import sys; sys.path[:0] = {sys.path!r}
from pathlib import Path
from tests.tokens import test_tokenized as t
write = t.tokenized._write
t.tokenized._write = lambda *a: (print("made"), write(*a))[1]
t.run(Path({str(path)!r}), work=Path(sys.argv[1]))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(here / name)], stdout=subprocess.PIPE, text=True)
        for name in ("one", "two", "three")
    ]
    assert sorted(process.communicate()[0] for process in processes) == ["", "", "made\n"]


MEASURE = """
import resource, sys
sys.path[:0] = {search!r}
from pathlib import Path
from tests.tokens import test_tokenized as t
t.pyarrow.array([1])
t.pool.PART_BYTES, t.pool.ALONE_BYTES = 2**16, 0
engine = t.made()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = t.run(Path({path!r}), work=Path({work!r}), engine=engine, wanted=t.Wanted("sft", "completion", 0))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, found.lengths.total)
"""


def test_memory_does_not_grow_with_the_file(here: Path) -> None:
    path = here / "big.jsonl"
    answer = "assistant question answer " * 20
    with path.open("w") as file:
        for number in range(10_000):
            messages = [{"role": "user", "content": f"{number}"}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": messages, "source": f"f:{number}"}) + "\n")
    program = MEASURE.format(search=sys.path, path=str(path), work=str(here / "work"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    grown, tokens = map(int, done.stdout.split())
    assert tokens > 700_000  # 25 MB as lists of numbers in Python for the ids alone, and as much for the labels
    assert grown < 12


def test_a_trainer_is_not_given_where_a_row_came_from_nor_its_slices() -> None:
    row = {"prompt": [], "chosen": [], "source": "a.jsonl:1", "slices": {"language": "de"}}
    assert rows.plain(row) == {"prompt": [], "chosen": []}
