"""How many rows and tokens a dataset has, quickly enough for a plan: no torch, no transformers.

With a `tokenizer.json` the text is tokenized, otherwise its bytes are divided by a constant. Small files
are counted whole; of large ones a sample that is the same each time, spread over the whole file. What was
counted is kept (`largeforge.cache`) until the file, the tokenizer or the settings change.

Nothing is checked here: rows that cannot be used are passed over, the prepare stage reports them.
"""

from __future__ import annotations

import math
import statistics
from array import array
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from largeforge import cache
from largeforge.data import formats, lengths, samples
from largeforge.data.faults import RowError
from largeforge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from largeforge.data.formats import Kind, Row

VERSION = 1
"""Of the way of counting; another one makes earlier counts void."""
SAMPLE_BYTES = 4 * 2**20
"""How much of a file is read as rows: about 0.1 s."""
TOKENIZED_BYTES = 512 * 2**10
"""How much of that is tokenized: tokenizers 0.23 does 4 MB a second on two cores."""
BYTES_PER_TOKEN = 4.0
"""Bytes of UTF-8 text per token; 4.1 for English rows with a vocabulary of 1200 trained on them."""
BYTES_ERROR = 0.35
"""Share by which the count by bytes may miss: code and other scripts have 2.6 to 5 bytes a token."""
TOKENS_PER_MESSAGE = 5
"""What a chat template adds to a message: start, role, line break, end, line break in ChatML, and as many in
Llama 3's; a system prompt that a template adds by itself is not counted."""
SAMPLE_ROWS = 20
"""Rows from which the form of a file is recognised, as `checks` does."""


@dataclass(frozen=True)
class TokenCounts:
    """What a file holds, in sequences: rows, or for preferences twice as many, prompt with each answer."""

    rows: int
    mean: float
    p50: int
    p95: int
    max: int
    total: float
    """Tokens of all sequences, chat template included."""
    error: float
    """Share by which `mean` and `total` may be wrong (95 %)."""
    counted: Literal["tokens", "bytes"]
    """Whether a tokenizer counted, or bytes were divided."""
    sampled: bool
    """Whether only a part of the file was looked at: `max` is then that of the part."""
    form: str
    """Form of the rows, as `formats.forms_of` names it."""

    @property
    def is_exact(self) -> bool:
        """Whether every row was tokenized; the chat template alone may still differ."""
        return self.counted == "tokens" and not self.sampled


def count(
    path: Path,
    *,
    kind: Kind,
    form: str = "auto",
    system: str = "",
    max_rows: int = 0,
    tokenizer: Path | None = None,
) -> TokenCounts:
    """Return what a JSONL or Parquet file holds; `tokenizer` is a `tokenizer.json`.

    Raises DataError when the file cannot be read or none of the rows looked at can be used.
    """
    key = _key(path, [VERSION, kind, form, system, max_rows], tokenizer)
    kept = cache.lookup("token_counts", key) if key else None
    if kept is not None:
        with suppress(TypeError):  # kept by a version with other fields: counted again
            return TokenCounts(**kept)
    found = _counted(path, kind=kind, form=form, system=system, max_rows=max_rows, tokenizer=tokenizer)
    if key and key == _key(path, [VERSION, kind, form, system, max_rows], tokenizer):
        cache.keep("token_counts", key, asdict(found))
    return found


def _key(path: Path, settings: list[Any], tokenizer: Path | None) -> list[Any] | None:
    try:
        files = [cache.file_key(path), cache.file_key(tokenizer) if tokenizer else {}]
    except OSError:
        return None  # reading it says why
    return None if None in files else [*files, settings]


def _counted(path: Path, *, kind: Kind, form: str, system: str, max_rows: int, tokenizer: Path | None) -> TokenCounts:
    sample = samples.sample(path, max_bytes=SAMPLE_BYTES, max_rows=max_rows)
    raw = [row for row in sample.rows if isinstance(row, dict)]
    form = formats.recognise(islice(raw, SAMPLE_ROWS), kind) if form == "auto" else form
    texts = list(_texts(raw, form, kind, system))
    if not texts:
        raise DataError(f"{path}: none of the first rows can be counted as {form or kind}")
    measure = _tokenizer(tokenizer) if tokenizer else None
    chosen, whole = _within(texts, TOKENIZED_BYTES) if measure else (texts, True)
    sizes = array("q", measure(chosen) if measure else map(_by_bytes, chosen))
    rows = sample.total_rows
    sampled = not sample.is_whole or not whole
    described = lengths.describe(sizes)
    per_row = len(texts) / max(1, len(raw))
    return TokenCounts(
        rows=rows,
        mean=described.mean,
        p50=described.p50,
        p95=described.p95,
        max=described.max,
        total=described.total if not sampled else described.mean * per_row * rows,
        error=math.hypot(_sampling_error(sizes) if sampled else 0.0, 0.0 if measure else BYTES_ERROR),
        counted="tokens" if measure else "bytes",
        sampled=sampled,
        form=form,
    )


def _texts(rows: Iterable[Row], form: str, kind: Kind, system: str) -> Iterator[list[str]]:
    """Yield the texts of each sequence; rows that cannot be used are passed over."""
    for row in rows:
        with suppress(RowError, KeyError):
            yield from formats.sequences(formats.normalise(row, form, kind, system=system))


def _within(texts: list[list[str]], max_bytes: int) -> tuple[list[list[str]], bool]:
    """Return evenly spread texts of about `max_bytes`, and whether they are all."""
    size = sum(len(text) for sequence in texts for text in sequence)
    step = -(-size // max_bytes)
    return texts[::step] if step > 1 else texts, step <= 1


def _by_bytes(sequence: list[str]) -> int:
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in sequence)
    return round(size / BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE * len(sequence)


def _tokenizer(path: Path) -> Callable[[list[list[str]]], list[int]] | None:
    """Return what counts the tokens of sequences; None when the tokenizer cannot be used."""
    try:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
    except Exception:  # the package may be missing, and it raises plain Exception for a broken file
        return None

    def measure(sequences: list[list[str]]) -> list[int]:
        flat = [text for sequence in sequences for text in sequence]
        counts = iter([len(found.ids) for found in tokenizer.encode_batch_fast(flat, add_special_tokens=False)])
        return [sum(islice(counts, len(one))) + TOKENS_PER_MESSAGE * len(one) for one in sequences]

    return measure


def _sampling_error(sizes: array[int]) -> float:
    """Return twice the standard error of the mean, as a share of the mean."""
    if len(sizes) < 2:
        return 1.0
    mean = statistics.fmean(sizes)
    return 2 * statistics.stdev(sizes) / math.sqrt(len(sizes)) / mean if mean else 0.0
