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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, cast

from largeforge import cache
from largeforge.data import formats, lengths, mixing, samples
from largeforge.data.faults import RowError
from largeforge.errors import DataError
from largeforge.files import content
from largeforge.files.paths import is_remote
from largeforge.recipe.schema import Dataset, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from largeforge.data.formats import Form, Kind, Row

VERSION = 2
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
MOST_FILES = 64
"""Into how many files of a source one looks."""
SAMPLE_ROWS = 20
"""Rows from which the form of a file is recognised, as `checks` does."""


_SMALLEST = 1 / 64
_Measure = Callable[[list[list[str]]], list[int]]


@dataclass(frozen=True)
class TokenCounts:
    """What a file or dataset holds, in sequences: rows, or for preferences twice as many, prompt with each answer."""

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
    columns: Mapping[str, str] | None = None,
    tokenizer: Path | None = None,
) -> TokenCounts:
    """Return what a file holds; `tokenizer` is a `tokenizer.json`.

    Raises DataError when the file cannot be read or none of the rows looked at can be used.
    """
    source = Source(
        path=str(path), format=cast("Form", form), system=system, max_rows=max_rows, columns=dict(columns or {})
    )
    return _kept([path], [VERSION, kind, form, system, max_rows, source.columns], tokenizer, lambda measure: _combined(
        [_look(path, source, kind, measure)]
    ))  # fmt: skip


def count_dataset(
    dataset: Dataset, *, kind: Kind, tokenizer: Path | None = None, held_out: bool = False
) -> TokenCounts:
    """Return what training sees of a dataset in one pass, or what its held-out file holds.

    Nothing is downloaded. Raises DataError when rows lie elsewhere and are not here yet, or cannot be read.
    """
    given = dataset.heldout_source
    sources = {"": given} if held_out and given else dataset.sources
    files = {name: _files(source) for name, source in sources.items()}
    if [len(found) for found in files.values()] == [1]:
        source = next(iter(sources.values()))
        return count(
            files[next(iter(sources))][0], kind=kind, form=source.format, system=source.system,
            max_rows=source.max_rows, columns=source.columns, tokenizer=tokenizer,
        )  # fmt: skip
    settings = [VERSION, kind, dataset.mix_rows, *(source.model_dump(exclude={"path"}) for source in sources.values())]

    def counted(measure: _Measure | None) -> TokenCounts:
        looks = {name: _look_all(files[name], source, kind, measure) for name, source in sources.items()}
        rows = {name: round(sum(look.rows for look in found)) for name, found in looks.items()}
        weights = {name: source.weight for name, source in sources.items()}
        shares = mixing.portions(rows, weights, dataset.mix_rows)
        scaled = [
            replace(look, rows=look.rows * part.gives / max(1, part.has))
            for part in shares
            for look in looks[part.name]
        ]
        return _combined(scaled)

    return _kept([path for found in files.values() for path in found], settings, tokenizer, counted)


def _files(source: Source) -> list[Path]:
    found = content.local_files(source.path)
    if found is None:
        where = ", ".join(path for path in content.as_list(source.path) if is_remote(path))
        raise DataError(f"{where} is not here yet; its rows are counted once it has been downloaded")
    return [file.path for file in found]


def _kept(
    files: list[Path], settings: list[Any], tokenizer: Path | None, counted: Callable[[_Measure | None], TokenCounts]
) -> TokenCounts:
    """Return counts from the cache, or count and keep them there."""
    key = _key(files, settings, tokenizer)
    kept = cache.lookup("token_counts", key) if key else None
    if kept is not None:
        with suppress(TypeError):  # kept by a version with other fields: counted again
            return TokenCounts(**kept)
    found = counted(_tokenizer(tokenizer) if tokenizer else None)
    if key and key == _key(files, settings, tokenizer):
        cache.keep("token_counts", key, asdict(found))
    return found


def _key(files: list[Path], settings: list[Any], tokenizer: Path | None) -> list[Any] | None:
    try:
        keys = [cache.file_key(path) for path in files]
        keys.append(cache.file_key(tokenizer) if tokenizer else {})
    except OSError:
        return None  # reading it says why
    return None if None in keys else [*keys, settings]


@dataclass(frozen=True)
class _Look:
    """What a look at one file found."""

    sizes: array[int]
    """Tokens of the sequences looked at."""
    rows: float
    """Rows that these stand for."""
    per_row: float
    """Sequences that a row makes."""
    counted: Literal["tokens", "bytes"]
    sampled: bool
    form: str

    @property
    def sequences(self) -> float:
        return self.rows * self.per_row

    @property
    def mean(self) -> float:
        return statistics.fmean(self.sizes)

    @property
    def error(self) -> float:
        """Share by which the mean may be wrong."""
        return math.hypot(
            _sampling_error(self.sizes) if self.sampled else 0.0, BYTES_ERROR if self.counted == "bytes" else 0.0
        )


def _look_all(files: list[Path], source: Source, kind: Kind, measure: _Measure | None) -> list[_Look]:
    """Look into the files of a source, or into some of many; their rows are then scaled up."""
    chosen = files[:: -(-len(files) // MOST_FILES)]
    sizes = [path.stat().st_size for path in files]
    part = sum(path.stat().st_size for path in chosen) / max(1, sum(sizes))
    found: list[_Look] = []
    left = source.max_rows
    for path in chosen:
        limited = source.model_copy(update={"max_rows": left})
        look = _look(path, limited, kind, measure, budget=max(1 / len(chosen), _SMALLEST))
        found.append(replace(look, rows=look.rows / part, sampled=look.sampled or part < 1))
        left = max(0, source.max_rows - round(sum(each.rows for each in found)))
        if source.max_rows and not left:
            break
    return found


def _look(path: Path, source: Source, kind: Kind, measure: _Measure | None, *, budget: float = 1.0) -> _Look:
    sample = samples.sample(path, max_bytes=round(SAMPLE_BYTES * budget), max_rows=source.max_rows)
    raw = [formats.renamed(row, source.columns) for row in sample.rows if isinstance(row, dict)]
    form = formats.recognise(islice(raw, SAMPLE_ROWS), kind) if source.format == "auto" else source.format
    texts = list(_texts(raw, form, kind, source.system))
    if not texts:
        raise DataError(f"{path}: none of the first rows can be counted as {form or kind}")
    chosen, whole = _within(texts, round(TOKENIZED_BYTES * budget)) if measure else (texts, True)
    return _Look(
        sizes=array("q", measure(chosen) if measure else map(_by_bytes, chosen)),
        rows=sample.total_rows,
        per_row=len(texts) / max(1, len(raw)),
        counted="tokens" if measure else "bytes",
        sampled=not sample.is_whole or not whole,
        form=form,
    )


def _combined(looks: list[_Look]) -> TokenCounts:
    """Return one count of several files, each size weighted by the sequences that it stands for."""
    sequences, total = sum(look.sequences for look in looks), sum(look.mean * look.sequences for look in looks)
    sampled = any(look.sampled for look in looks)
    if len(looks) == 1:
        described = lengths.describe(looks[0].sizes)
        mean, p50, p95 = described.mean, described.p50, described.p95
        total = total if sampled else described.total
    else:
        mean, (p50, p95) = total / max(1.0, sequences), _percentiles(looks, sequences)
    return TokenCounts(
        rows=round(sum(look.rows for look in looks)),
        mean=mean,
        p50=p50,
        p95=p95,
        max=max(max(look.sizes) for look in looks),
        total=total,
        error=sum(look.error * look.mean * look.sequences for look in looks) / total if total else 0.0,
        counted=looks[0].counted,
        sampled=sampled,
        form=", ".join(dict.fromkeys(look.form for look in looks)),
    )


def _percentiles(looks: list[_Look], sequences: float) -> tuple[int, int]:
    weighted = sorted((size, look.sequences / len(look.sizes)) for look in looks for size in look.sizes)
    found: list[int] = []
    before = 0.0
    wanted = iter((0.50, 0.95))
    share = next(wanted)
    for size, weight in weighted:
        before += weight
        while len(found) < 2 and before >= share * sequences * (1 - 1e-9):
            found.append(size)
            share = next(wanted, 1.0)
    return found[0], found[1]


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


def _tokenizer(path: Path) -> _Measure | None:
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
