"""Token counts for a plan, against counts that are done by hand and by the training's own tokenizer."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from largeforge import cache
from largeforge.data import token_counts
from largeforge.data.token_counts import BYTES_ERROR, TOKENS_PER_MESSAGE, count
from largeforge.errors import DataError

CHAT = {"messages": [{"role": "user", "content": "x" * 40}, {"role": "assistant", "content": "y" * 80}]}
PAIR = {"prompt": "p" * 40, "chosen": "c" * 80, "rejected": "r" * 160}


@pytest.fixture(autouse=True)
def settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own; files count as settled long ago."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "SETTLED_S", -1e12)


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A tokenizer that makes a token of each word."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({"[UNK]": 0, "word": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_without_a_tokenizer_bytes_are_divided(tmp_path: Path) -> None:
    found = count(write(tmp_path / "a.jsonl", CHAT, CHAT), kind="sft")
    assert found.mean == 30 + 2 * TOKENS_PER_MESSAGE
    assert (found.rows, found.total, found.max) == (2, 2 * found.mean, found.mean)
    assert (found.counted, found.sampled, found.error, found.form) == ("bytes", False, BYTES_ERROR, "messages")
    assert not found.is_exact


def test_a_tokenizer_counts_each_row(tmp_path: Path, tokenizer: Path) -> None:
    rows = [{"prompt": "word " * n, "response": "word"} for n in range(1, 101)]
    found = count(write(tmp_path / "a.jsonl", *rows), kind="sft", tokenizer=tokenizer)
    extra = 1 + 2 * TOKENS_PER_MESSAGE
    assert (found.p50, found.p95, found.max) == (50 + extra, 95 + extra, 100 + extra)
    assert found.total == 5050 + 100 * extra
    assert (found.is_exact, found.error) == (True, 0)


def test_preferences_count_both_answers_with_their_prompt(tmp_path: Path) -> None:
    found = count(write(tmp_path / "a.jsonl", PAIR), kind="preference")
    short, long = 30 + 2 * TOKENS_PER_MESSAGE, 50 + 2 * TOKENS_PER_MESSAGE
    assert (found.rows, found.max, found.total) == (1, long, short + long)
    assert found.mean == (short + long) / 2


def test_the_system_prompt_counts_where_a_row_has_none(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", CHAT)
    plain, led = count(path, kind="sft"), count(path, kind="sft", system="s" * 400)
    assert led.mean == plain.mean + 100 + TOKENS_PER_MESSAGE


def test_rows_that_cannot_be_used_are_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", CHAT, {"messages": []}, {"other": 1}, CHAT)
    assert count(path, kind="sft").total == 2 * count(write(tmp_path / "b.jsonl", CHAT), kind="sft").total


@pytest.mark.parametrize("row", [{"other": 1}, PAIR])
def test_a_file_without_usable_rows_is_an_error(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl: none of the first rows can be counted as messages"):
        count(write(tmp_path / "a.jsonl", row), kind="sft", form="messages")


def test_a_sample_of_a_large_file_comes_close_to_the_whole(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(3)
    rows = [{"prompt": "word " * chance.randint(1, 200), "response": "word"} for _ in range(3000)]
    path = write(tmp_path / "a.jsonl", *rows)
    monkeypatch.setattr(token_counts, "TOKENIZED_BYTES", 10**7)
    whole = count(path, kind="sft", tokenizer=tokenizer)
    monkeypatch.setattr(token_counts, "SAMPLE_BYTES", 300_000)
    monkeypatch.setattr(token_counts, "TOKENIZED_BYTES", 100_000)
    monkeypatch.setattr(token_counts, "VERSION", 0)  # not the count that was kept
    part = count(path, kind="sft", tokenizer=tokenizer)
    assert whole.is_exact
    assert part.sampled
    assert part.rows == 3000
    assert 0 < part.error < 0.2
    assert part.total == pytest.approx(whole.total, rel=1.5 * part.error)


def test_a_file_is_counted_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.jsonl", CHAT)
    first = count(path, kind="sft")
    with monkeypatch.context() as patched:
        patched.setattr(token_counts.samples, "sample", lambda *_, **__: pytest.fail("counted again"))
        assert count(path, kind="sft") == first
    write(path, CHAT, CHAT)
    assert count(path, kind="sft").rows == 2


def test_other_settings_and_tokenizers_have_counts_of_their_own(tmp_path: Path, tokenizer: Path) -> None:
    path = write(tmp_path / "a.jsonl", {**CHAT, **PAIR}, {**CHAT, **PAIR})
    found = [
        count(path, kind="sft"), count(path, kind="sft", max_rows=1), count(path, kind="sft", system="x" * 100),
        count(path, kind="preference"), count(path, kind="sft", tokenizer=tokenizer),
    ]  # fmt: skip
    assert len({(one.rows, one.total, one.counted) for one in found}) == len(found)


def test_a_broken_tokenizer_falls_back_to_bytes(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Hostile"}}')
    found = count(write(tmp_path / "a.jsonl", CHAT), kind="sft", tokenizer=tmp_path / "tokenizer.json")
    assert found.counted == "bytes"


def test_a_kept_count_of_another_shape_is_not_believed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", CHAT)
    first = count(path, kind="sft")
    [kept] = (tmp_path / "cache").rglob("*.json")
    entry = json.loads(kept.read_text())
    cache.keep("token_counts", entry["key"], {"rows": 7})
    assert count(path, kind="sft") == first


def test_counting_imports_neither_torch_nor_transformers(tmp_path: Path, tokenizer: Path) -> None:
    path = write(tmp_path / "a.jsonl", CHAT)
    program = f"""
import sys
from pathlib import Path
from largeforge.data.token_counts import count
count(Path({str(path)!r}), kind="sft", tokenizer=Path({str(tokenizer)!r}))
heavy = set(sys.modules) & {{"torch", "transformers", "numpy", "pyarrow", "datasets"}}
sys.exit(str(heavy) if heavy else 0)
"""
    subprocess.run([sys.executable, "-c", program], check=True, env=dict(os.environ))


@pytest.mark.parametrize("name", ["general", "mapper", "support"])
def test_the_division_of_bytes_is_within_its_error_on_the_shipped_data(name: str, tmp_path: Path) -> None:
    """Against a tokenizer that is trained on the data, as the quickstart's are."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    path = next((Path(__file__).parents[2] / "recipes" / "data" / "quickstart").glob(f"*{name}*.jsonl"))
    text = path.read_text()
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1200, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator([text], trainer)
    made.save(str(tmp_path / "tokenizer.json"))
    real = count(path, kind="sft", tokenizer=tmp_path / "tokenizer.json")
    rough = count(path, kind="sft")
    assert rough.total == pytest.approx(real.total, rel=BYTES_ERROR)
