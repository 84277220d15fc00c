"""Stage `prepare`: read a dataset, check every row, split off what is held out, write both.

Leaves `train.jsonl` and `heldout.jsonl`: normalised rows, each with its `source` (`file:line`); with
`on_error: skip` also `skipped.jsonl`, if a row was skipped. No tokenizer is involved; lengths in tokens are
for the training (`training/datasets.py`). Memory does not grow with the text: of each row some 40 bytes are
kept, hashes and its length.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.data import contamination, mixing, near, spread
from largeforge.data.bad_rows import Refused, Skipped
from largeforge.data.checks import CheckedSource
from largeforge.data.formats import Kind
from largeforge.data.key_set import KeySet
from largeforge.data.overlap import GivenHeldout
from largeforge.data.parts import Marks, Part
from largeforge.data.splits import Splitter
from largeforge.data.writers import RowWriter, without
from largeforge.errors import DataError
from largeforge.files import cached, content, paths
from largeforge.recipe.base import Strict
from largeforge.recipe.schema import Dataset
from largeforge.stages.context import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.data.bad_rows import BadRows
    from largeforge.data.formats import Row
    from largeforge.files.paths import DataFile
    from largeforge.recipe.schema import Source
    from largeforge.stages.context import Context

PROGRESS_BYTES = 32 * 2**20
PROGRESS_ROWS = 20_000
"""Rows between two progress events: about half a second."""


class Config(Strict):
    """What to prepare, and for which kind of method."""

    dataset: Dataset
    """The recipe's dataset with absolute paths."""
    kind: Kind
    """What the method trains on, `DATA_KIND` of its module."""
    judged: bool = False
    """Whether the model is judged on the held-out rows, so that there must be some."""


def run(config: Config, context: Context) -> Result:
    """Write the prepared rows.

    Raises DataError with all bad rows of a source, StageError when the rows cannot be written.
    """
    return _Preparation(config, context).run()


@dataclass
class Counts:
    """Rows that were left out, or could have been."""

    earlier_turn: int = 0
    duplicate: int = 0
    near_duplicate: int = 0
    contaminated_heldout: int = 0
    contaminated_train: int = 0


class _Preparation:
    """One run of the stage."""

    def __init__(self, config: Config, context: Context):
        self.config, self.context, self.dataset = config, context, config.dataset
        self.counts = Counts()
        self.downloaded = 0
        self.resolved: dict[str, Any] = {}
        skip = self.dataset.on_error == "skip"
        self.bad: BadRows = Skipped(context.out / "skipped.jsonl", self.dataset.max_skipped) if skip else Refused()
        given = self.dataset.heldout_source
        self.sources = {name: self._checked(source, name) for name, source in self.dataset.sources.items()}
        self.given = self._checked(given, "") if given else None
        self.progress = _Progress([*self.sources.values(), *([self.given] if self.given else [])], context)
        self.seen = KeySet()

    def run(self) -> Result:
        files = [file.path for source in self.progress.sources for file in source.files]
        needed_bytes = sum(path.stat().st_size for path in dict.fromkeys(files))
        with ExitStack() as stack:
            parts = self._parts(stack, needed_bytes)
            heldout = stack.enter_context(RowWriter(self.context.out / "heldout.jsonl", needed_bytes=needed_bytes))
            self._read(parts, heldout)
        if isinstance(self.bad, Skipped):
            self.bad.close()
        self._leave_out_leaks(parts)
        heldout = self._leave_out_near(parts, heldout)
        self._compare(parts, heldout)
        for part in parts:
            part.finish()
        train = self._mixed(parts, needed_bytes)
        self._check_size(train, heldout)
        self._tell(train, heldout)
        return self._result(train, heldout)

    def _checked(self, source: Source, name: str) -> CheckedSource:
        return CheckedSource(source, self._files(source), self.config.kind, name=name, bad=self.bad)

    def _files(self, source: Source) -> list[DataFile]:
        """Return the local files of a source; what is remote is downloaded first."""
        found: list[DataFile] = []
        for path in content.as_list(source.path):
            if not paths.is_remote(path):
                found += content.of_local(path)
                continue
            files, version = cached.fetch(path, progress=self._downloaded)
            self.resolved[path] = {"version": version.name, "files": len(files)}
            if version.fault:
                self._note(f"{version.fault}; the copy that is here is used")
            found += files
        return content.named(found)

    def _downloaded(self, done: int, total: int) -> None:
        before, self.downloaded = self.downloaded, done
        if before // PROGRESS_BYTES < done // PROGRESS_BYTES:
            self.context.events.emit("progress", step=done >> 20, total=total >> 20, unit="MiB downloaded")

    def _parts(self, stack: ExitStack, needed_bytes: int) -> list[Part]:
        keys, parts = KeySet(), []
        folder = self.context.work / "sources"
        if self.dataset.mix:
            folder.mkdir(parents=True, exist_ok=True)
        for name, source in self.sources.items():
            path = folder / f"{name}.jsonl" if name else self.context.out / "train.jsonl"
            writer = stack.enter_context(RowWriter(path, needed_bytes=needed_bytes))
            parts.append(Part(source, writer, fraction=self.dataset.heldout_fraction, heldout_keys=keys))
        return parts

    def _read(self, parts: list[Part], heldout: RowWriter) -> None:
        """Write all rows that are neither bad nor repeated to one side of the split or the other."""
        if self.given is None:
            for part in parts:
                self._split(part, heldout)
            return
        given = GivenHeldout(self.given.title)
        splitter = Splitter(0.0, system=self.dataset.system)
        for source, row in self.progress.rows(self.given):
            keys = splitter.keys(row)
            if self._is_wanted(keys.whole):
                given.add(source, keys)
                heldout.write(row, source)
        for part in parts:
            for source, row in self.progress.rows(part.source):
                keys = part.splitter.keys(row)
                if self._is_wanted(keys.whole):
                    given.check(source, keys)
                    part.train.write(row, source)
        given.raise_if_any(", ".join(part.source.title for part in parts))
        if given.earlier_turns:
            text = f"rows of {self._name} with a held-out prompt in an earlier turn: {given.earlier_turns} "
            self._note(text + "(held-out results flatter a method that learns earlier turns)")

    def _split(self, part: Part, heldout: RowWriter) -> None:
        for source, row in self.progress.rows(part.source):
            keys = part.splitter.keys(row)
            if not self._is_wanted(keys.whole):
                continue
            if part.splitter.is_heldout(keys.prompt):
                part.turns.add_heldout(keys)
                heldout.write(row, source)
            else:
                part.turns.add_train(part.train.rows, keys)
                part.train.write(row, source)

    def _is_wanted(self, key: int) -> bool:
        if self.seen.add(key):
            return True
        self.counts.duplicate += 1
        return self.dataset.dedup == "none"

    def _leave_out_leaks(self, parts: list[Part]) -> None:
        if self.given is None:
            self.counts.earlier_turn = sum(part.leave_out(part.turns.leaks()) for part in parts)

    def _leave_out_near(self, parts: list[Part], heldout: RowWriter) -> RowWriter:
        """Leave out rows that nearly repeat another; held-out ones come first, so that none is repeated in training."""
        if self.dataset.dedup != "near":
            return heldout
        repeated = near.in_files(
            [heldout.path, *(part.train.path for part in parts)],
            self.context.work / "signatures", threshold=self.dataset.dedup_threshold, progress=self.progress.compared,
        )  # fmt: skip
        marks = Marks()
        self.counts.near_duplicate = marks.add(_indexes(repeated[0]), heldout.rows)
        for part, gone in zip(parts, repeated[1:], strict=True):
            self.counts.near_duplicate += part.leave_out(_indexes(gone))
        return without(heldout, marks.gone)

    def _compare(self, parts: list[Part], heldout: RowWriter) -> None:
        """Look for held-out text in training rows."""
        what = self.dataset.contamination
        if what == "off" or not heldout.rows:
            return
        found = contamination.search(
            heldout.path,
            [part.train.path for part in parts],
            threshold=self.dataset.contamination_threshold,
            gone=[part.marks.gone for part in parts],
            progress=self.progress.compared,
        )
        self.counts.contaminated_heldout, self.counts.contaminated_train = found.heldout_rows, found.train_rows
        if not found.heldout_rows:
            return
        text = found.describe()
        if what == "fail":
            raise DataError(f"{self._name}: {text}; take the training rows out, or with dataset.contamination=remove")
        if what == "warn":
            self._note(f"{self._name}: {text}; held-out results may flatter (dataset.contamination=remove)")
            return
        removed = sum(part.leave_out(gone) for part, gone in zip(parts, found.offenders, strict=True))
        self._note(f"{self._name}: {text}; removed from training: {removed}")

    def _mixed(self, parts: list[Part], needed_bytes: int) -> RowWriter:
        """Return the file of training rows, put together where there are several sources."""
        if not self.dataset.mix:
            return parts[0].train
        weights = {name: source.weight for name, source in self.dataset.sources.items()}
        rows = {part.name: part.train.rows for part in parts}
        shares = mixing.portions(rows, weights, self.dataset.mix_rows)
        with RowWriter(self.context.out / "train.jsonl", needed_bytes=needed_bytes) as output:
            mixing.mix({part.name: part.train for part in parts}, shares, output)
        for part in parts:
            part.train.path.unlink()
        table = [[p.name, p.has, p.gives, f"{p.gives / max(1, output.rows):.1%}", f"{p.passes:.2f}"] for p in shares]
        columns = ["source", "rows", "in the mixture", "share", "passes"]
        self.context.events.emit("table", title="Mixture", columns=columns, rows=table)
        return output

    def _check_size(self, train: RowWriter, heldout: RowWriter) -> None:
        dataset, title = self.dataset, ", ".join(self.dataset.titles)
        if not train.rows:
            raise DataError(
                f"{title}: no rows are left to train on, since {heldout.rows} are held out at "
                f"dataset.heldout_fraction = {dataset.heldout_fraction}; add rows, or set it to 0"
            )
        if self.config.judged and not heldout.rows:
            raise DataError(
                f"{title}: none of its {train.rows} rows is held out at dataset.heldout_fraction = "
                f"{dataset.heldout_fraction}, and the model is to be judged on held-out rows; add rows, give "
                "dataset.heldout_path, or hold out more, such as dataset.heldout_fraction=0.3"
            )

    def _tell(self, train: RowWriter, heldout: RowWriter) -> None:
        for text in self._notes(train, heldout):
            self._note(text)
        title = f"Length of the rows to train on ({self._name})"
        self.context.events.emit("table", title=title, columns=spread.COLUMNS, rows=spread.table(train.lengths))

    def _notes(self, train: RowWriter, heldout: RowWriter) -> Iterator[str]:
        counts, name = self.counts, self._name
        yield (
            f"{name} ({self._form}): {train.rows} rows to train on ({sum(train.lengths)} characters), "
            f"{heldout.rows} held out ({sum(heldout.lengths)} characters)"
        )
        if counts.earlier_turn:
            text = f"rows of {name} with a held-out prompt in an earlier turn, removed from training"
            yield f"{text}: {counts.earlier_turn}"
        if self.bad.count:
            yield f"rows of {name} that cannot be used, put into {self.context.out / 'skipped.jsonl'}: {self.bad.count}"
        if counts.duplicate:
            done = "kept (dataset.dedup=exact removes them)" if self.dataset.dedup == "none" else "removed"
            yield f"rows of {name} that repeat an earlier one, {done}: {counts.duplicate}"
        if counts.near_duplicate:
            yield f"rows of {name} that nearly repeat another one, removed: {counts.near_duplicate}"
        fraction = self.dataset.heldout_fraction
        if not heldout.rows and fraction > 0:
            yield f"no row of {name} is held out: {train.rows} rows are too few for heldout_fraction = {fraction}"

    def _result(self, train: RowWriter, heldout: RowWriter) -> Result:
        metrics = {
            "train_rows": train.rows, "heldout_rows": heldout.rows, "train_characters": sum(train.lengths),
            "heldout_characters": sum(heldout.lengths), **spread.metrics(train.lengths, "train_characters"),
            "skipped_rows": self.bad.count, **{f"{name}_rows": count for name, count in asdict(self.counts).items()},
        }  # fmt: skip
        info = {"sha256": {writer.path.name: writer.sha256 for writer in (train, heldout)}, "format": self._form}
        resolved = {"resolved": {"datasets": self.resolved}} if self.resolved else {}
        return Result(metrics={name: float(value) for name, value in metrics.items()}, info=info | resolved)

    def _note(self, text: str) -> None:
        self.context.events.emit("note", text=text)

    @property
    def _name(self) -> str:
        """What the data is called in a sentence."""
        return ", ".join(title if paths.is_pattern(title) else Path(title).name for title in self.dataset.titles)

    @property
    def _form(self) -> str:
        return ", ".join(dict.fromkeys(form for source in self.sources.values() for form in source.form.split(", ")))


class _Progress:
    """Passes rows on and emits progress over all sources; the rows of small ones are never counted."""

    def __init__(self, sources: list[CheckedSource], context: Context):
        self.sources = sources
        self._context = context
        self._total = 0
        self._step = 0
        self._compared = 0

    def rows(self, source: CheckedSource) -> Iterator[tuple[str, Row]]:
        """Yield the rows of a source."""
        for item in source.rows():
            self._step += 1
            if self._step % PROGRESS_ROWS == 0:
                self._total = self._total or sum(source.count_rows() for source in self.sources)
                self._emit(self._step, self._total, "rows")
            yield item

    def compared(self, rows: int) -> None:
        """Tell that some more rows have been compared with others."""
        before, self._compared = self._compared, self._compared + rows
        if before // PROGRESS_ROWS != self._compared // PROGRESS_ROWS:
            self._emit(self._compared, 0, "rows compared")

    def _emit(self, step: int, total: int, unit: str) -> None:
        self._context.events.emit("progress", step=step, total=max(total, step), unit=unit)


def _indexes(marks: bytearray) -> Iterator[int]:
    return (index for index, is_marked in enumerate(marks) if is_marked)
