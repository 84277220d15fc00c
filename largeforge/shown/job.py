"""The rows and the tokenizer of a job: those of a run where it has got that far, otherwise made as a run would."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from largeforge.errors import DataError, ModelError, Problem, RecipeError, listed, nearest
from largeforge.events import Events
from largeforge.planning import make_plan, stage_name
from largeforge.recipe import extensions, model_ref
from largeforge.runs import Run, existing
from largeforge.stages.context import Context
from largeforge.tokens.examples import first_rows

if TYPE_CHECKING:
    from largeforge.data.formats import Kind, Row
    from largeforge.plan import Plan, Stage
    from largeforge.recipe.schema import Job, Recipe
    from largeforge.recipe.training import Split

SAMPLE_ROWS = 500
"""Rows that are prepared where the recipe has not run yet."""


@dataclass(frozen=True)
class Rows:
    """Prepared rows."""

    folder: Path
    is_sample: bool
    """Whether they are made of the first rows only."""

    def of(self, split: Split, count: int) -> list[Row]:
        """Return the first rows of a split."""
        return list(first_rows(self.folder / f"{split}.jsonl", count))

    def named(self, source: str) -> Row | None:
        """Return the row that stands at a place (`file:line`) of the data."""
        for split in ("train", "heldout"):
            for row in first_rows(self.folder / f"{split}.jsonl", 2**62):
                if row["source"] == source or row["source"].endswith(f"/{source}"):
                    return row
        return None


class ShownJob:
    """One training job of a recipe."""

    def __init__(self, recipe: Recipe, name: str, *, recipe_folder: str, packs: dict[str, Any] | None):
        self.name = _chosen(recipe, name)
        self.job: Job = recipe.training_jobs[self.name]
        self.kind: Kind = extensions.load("method", self.job.method.name).DATA_KIND
        self._plan: Plan = make_plan(recipe, recipe_folder=recipe_folder, packs=packs)
        self._prepare = self._stage("prepare")

    @contextmanager
    def rows(self, *, at: str = "") -> Iterator[Rows]:
        """Give the prepared rows, and among them the one at a place of the data, if there is one."""
        done = self._artifact(self._prepare)
        if done is not None:
            yield Rows(done, is_sample=False)
            return
        with TemporaryDirectory(prefix="largeforge-show-") as folder:
            found = self._sample(Path(folder), SAMPLE_ROWS)
            if at and found.named(at) is None:
                found = self._sample(Path(folder), 0)
            yield found

    def tokenizer(self) -> Any:
        """Return the tokenizer that the job would train with.

        Raises ModelError when there is none yet, or none that can be loaded.
        """
        from largeforge.stages.loading import load_tokenizer
        from largeforge.stages.models import ResolvedModel, resolve

        ref = model_ref.parse(self.job.model.ref)
        options: dict[str, Any] = {"renders": self.kind != "text", "chat_template": self.job.model.chat_template}
        if ref.scheme in ("tiny", "job"):
            kinds = ("init", "train") if ref.scheme == "tiny" else (ref.selector or "train",)
            job = self.name if ref.scheme == "tiny" else ref.target
            for kind in kinds:
                found = self._artifact(self._stage(kind, job=job))
                if found is not None:
                    return load_tokenizer(ResolvedModel(str(found), self.job.model.ref), **options)
            return self._registered(job, options)
        source = resolve(self.job.model.ref, registry=self._plan.recipe.registry, inputs={})
        return load_tokenizer(source, **options)

    def _registered(self, job: str, options: dict[str, Any]) -> Any:
        """Return the tokenizer of the model that a job registered in an earlier run."""
        from largeforge.errors import RegistryError
        from largeforge.stages.loading import load_tokenizer
        from largeforge.stages.models import resolve

        made = self._plan.recipe.training_jobs[job]
        missing = ModelError(
            f"the tokenizer of {self.job.model.ref} is made by the stage {stage_name(self._plan.recipe, job, 'init')}, "
            "which has not run with these settings: run the recipe once, or look at the rows without it (--raw)"
        )
        if not made.register_as:
            raise missing
        reference = f"registry:{made.register_as}@{made.register_alias}"
        try:
            return load_tokenizer(resolve(reference, registry=self._plan.recipe.registry, inputs={}), **options)
        except RegistryError:
            raise missing from None

    def _stage(self, kind: str, *, job: str = "") -> Stage:
        name = stage_name(self._plan.recipe, job or self.name, kind)
        return next(stage for stage in self._plan.stages if stage.name == name)

    def _artifact(self, stage: Stage) -> Path | None:
        """Return what a stage made in this or an equal run, if it is still whole."""
        root = Path(self._plan.recipe.runs.root).expanduser().absolute()
        for path in [*existing(self._plan), root / "none"]:
            run = Run(path, root)
            if run.finished(stage):
                return run.stage_dir(stage.name) / "out"
        elsewhere = Run(root / "none", root).finished_elsewhere(stage)
        return elsewhere / "out" if elsewhere else None

    def _sample(self, folder: Path, max_rows: int) -> Rows:
        """Prepare the first rows, with the code of the stage and its complaints about them."""
        from largeforge.stages import prepare

        config = prepare.Config.model_validate({**self._prepare.config, "judged": False})
        limits = [count for count in (config.dataset.max_rows, max_rows) if count]
        dataset = config.dataset.model_copy(update={"max_rows": min(limits, default=0)})
        for name in ("out", "work"):
            (folder / name).mkdir(exist_ok=True)
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            events = Events(self._prepare.name, nowhere)
            context = Context(self._prepare.name, {}, folder / "out", folder / "work", events, lock="")
            found = prepare.run(config.model_copy(update={"dataset": dataset}), context).metrics
        return Rows(folder / "out", is_sample=0 < max_rows <= found["train_rows"] + found["heldout_rows"])


def _chosen(recipe: Recipe, name: str) -> str:
    """Return the job that is meant; raises RecipeError when that is not clear."""
    jobs = recipe.training_jobs
    if not jobs:
        raise RecipeError(f"recipe {recipe.name} trains nothing, so that it has no rows")
    if name in jobs:
        return name
    if not name and len(jobs) == 1:
        return next(iter(jobs))
    rule = f"choose one of the recipe's jobs: {listed(jobs)}."
    raise RecipeError([Problem("--job", rule, given=repr(name), nearest=nearest(name, jobs) if name else "")])


def no_such_row(at: str) -> DataError:
    """Return the error for a place at which no row was prepared."""
    return DataError(f"--row {at}: no prepared row stands there; give FILE:LINE as in the messages about rows")
