"""Every evaluator on every model of a comparison, with the engine that fits; what is finished is kept in `work/`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import write_json
from largeforge.judging import series
from largeforge.recipe import extensions, further_models, model_ref
from largeforge.recipe.evaluation import judges, named
from largeforge.stages import contenders
from largeforge.stages.answer_pair import AnswerPair
from largeforge.stages.contenders import Contender
from largeforge.stages.loading import Base, task_type
from largeforge.stages.models import ResolvedModel, checked_folder
from largeforge.stages.own_rows import read_own_rows
from largeforge.stages.served_subject import WrittenSubject
from largeforge.stages.written import read_answers
from largeforge.training.arguments import compute_precision
from largeforge.training.other_models import OtherModels

if TYPE_CHECKING:
    from largeforge.judging.series import Series
    from largeforge.recipe.schema import Registry
    from largeforge.stages.context import Context
    from largeforge.stages.evaluate import Config
    from largeforge.stages.subject import Subject

MODEL, BASE = "model", "base"


class Measuring:
    """Every evaluator on every contender; one that is killed goes on where it was."""

    def __init__(self, config: Config, context: Context, rows: list[dict[str, Any]]):
        self.config, self.context, self.rows = config, context, rows
        self.trained = ResolvedModel(str(checked_folder(context.inputs["model"])), context.stage)
        self.task = task_type(self.trained)
        further = further_models.of_settings("evaluation", config.evaluation)
        self.others = OtherModels(context, config.registry, further, device=config.device, precision="auto")
        self.absent: list[str] = []
        self.found: dict[str, dict[str, Series]] = {}
        self.pairs: dict[str, dict[str, Series]] = {}
        """What was measured of the model and each baseline together."""
        self.samples: dict[str, list[dict[str, Any]]] = {}
        self.looks_at = {key: judges(one) for key, one in config.evaluation.items()}
        self.by_answers = [key for key, what in self.looks_at.items() if what in ("answers", "pairs")]
        paths = {key: getattr(one, "path", "") for key, one in config.evaluation.items()}
        self.own_rows = {key: read_own_rows(Path(path)) for key, path in paths.items() if path}
        """Rows of evaluators that bring them in a file."""

    def run(self) -> tuple[dict[str, dict[str, Series]], dict[str, list[dict[str, Any]]]]:
        """Return, for each contender, its metrics and its answers."""
        config, everything = self.config, list(self.config.evaluation)
        of_servers = [key for key, what in self.looks_at.items() if what == "server"]
        served = [*self.by_answers, *of_servers] if self._is_served() else []
        rest = [name for name in everything if name not in served]
        trained = self._model()
        for group in contenders.grouped([*self._baselines(), *self._base(), trained]):
            if missing := [one for one in group if self._unfinished(one.name, served)]:
                with contenders.served(
                    missing, self.rows, self.context, device=config.device, serving=config.serving, others=self.others
                ) as subjects:
                    for contender, subject in subjects:
                        self._measure(contender.name, subject, served)
            if missing := [one for one in group if self._unfinished(one.name, rest)]:
                for contender, model in contenders.loaded(
                    missing, self.rows, self.context, task=self.task, device=config.device, others=self.others
                ):
                    self._measure(contender.name, model, rest)
        for name, baseline in config.judging.baselines.items():
            if baseline.answers:
                written, title = read_answers(Path(baseline.answers)), f"judging.baselines.{name}.answers"
                answers = WrittenSubject(written, title, trained.tokenizer(self.rows), self.rows, self.context)
                self._measure(name, answers, self._answered(answers, name))
        self._compare(trained)
        for who in [BASE, *config.judging.baselines, MODEL]:
            self._take_in(who, everything)
        return self.found, self.samples

    @property
    def rows_by_file(self) -> dict[str, list[dict[str, Any]]]:
        """The rows that evaluators brought, by the name of their file."""
        return {self._title(key): rows for key, rows in self.own_rows.items()}

    @property
    def found_in_pairs(self) -> dict[str, dict[str, Series]]:
        """What was measured of two contenders together, under `vs_<baseline>`."""
        return {f"vs_{who}": metrics for who, metrics in self.pairs.items()}

    def _model(self) -> Contender:
        if not self.trained.is_adapter:
            return Contender(MODEL, self.trained)
        return Contender(MODEL, self.trained, self._started_from, quantization=self._quantization())

    def _base(self) -> list[Contender]:
        if not self.config.judging.base:
            return []
        template, quantization = self.config.chat_template, self._quantization()
        return [Contender(BASE, self._started_from, chat_template=template, quantization=quantization)]

    @property
    def _started_from(self) -> ResolvedModel:
        return Base(self.config.reference, self.config.registry).resolve(self.context)

    def _quantization(self) -> Any:
        adapter = extensions.load("adapter", self.config.adapter.name)
        return adapter.quantization(self.config.adapter, precision=compute_precision("auto", self.config.device))

    def _baselines(self) -> Iterator[Contender]:
        for name, baseline in self.config.judging.baselines.items():
            if not baseline.model:
                continue
            if not _exists(baseline.model, self.config.registry):
                self.absent.append(name)
                self.context.events.emit("note", text=f"{name}: there is no {baseline.model} yet to compare with")
                continue
            source = self.others.source(baseline.model)
            yield Contender(name, source, self.others.base(source) if source.is_adapter else None)

    def _is_served(self) -> bool:
        engine, serving = self.config.judging.engine, self.config.serving
        if not self.by_answers and "server" not in self.looks_at.values():
            return False
        if engine == "transformers":
            return False
        return engine == "vllm" or (self.config.device == "cuda" and bool(serving.python or find_spec("vllm")))

    def _unfinished(self, who: str, names: list[str]) -> bool:
        return not all(self._kept(who, name).is_file() for name in names)

    def _kept(self, who: str, name: str) -> Path:
        return self.context.work / "measured" / f"{who}.{name}.json"

    def _measure(self, who: str, subject: Subject, names: list[str]) -> None:
        subjects: dict[str, Subject] = {"": subject}
        for name in names:
            if self._kept(who, name).is_file():
                continue
            evaluator, title = self.config.evaluation[name], self._title(name)
            asked = subjects.get(title)
            if asked is None:
                asked = subjects[title] = subject.over(self.own_rows[name], title)
            asked.label, asked.samples, asked.work = f"{name} of {who}", [], self._work(name)
            asked.device = self.config.device
            if self.looks_at[name] == "pairs":
                places = list(range(len(asked.rows)))
                size, longest = evaluator.batch_size, evaluator.max_new_tokens  # type: ignore[attr-defined]
                answers = asked.answers(places, max_new_tokens=longest, batch_size=size)
                write_json(self._kept(who, name), {"metrics": {}, "samples": [], "answers": answers})
                continue
            found = extensions.load("evaluation", evaluator.name).run(evaluator, asked)
            write_json(self._kept(who, name), self._plain(name, found, asked.samples))

    def _plain(self, key: str, found: dict[str, Series], samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return what an evaluator found as plain data, under the names that it has beyond its module."""
        evaluator, title = self.config.evaluation[key], self._title(key)
        over = {name: replace(one, over=one.over or title) for name, one in found.items()}
        plain = {named(key, evaluator, name): one.as_dict() for name, one in over.items()}
        return {
            "metrics": plain, "samples": [{**one, "metric": named(key, evaluator, one["metric"])} for one in samples],
        }  # fmt: skip

    def _title(self, key: str) -> str:
        """Return the name of the file whose rows an evaluator judges by; empty for the held-out ones."""
        paths = [Path(getattr(self.config.evaluation[own], "path", "")) for own in (key, *self.own_rows)]
        if key not in self.own_rows:
            return ""
        return paths[0].name if all(path == paths[0] or path.name != paths[0].name for path in paths) else str(paths[0])

    def _work(self, key: str) -> Path:
        path = self.context.work / "evaluators" / key
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _answered(self, written: WrittenSubject, who: str) -> list[str]:
        """Return the evaluators that answers in a file allow: it need not have those to rows of other files."""
        found = [
            key
            for key in self.by_answers
            if key not in self.own_rows or written.over(self.own_rows[key], self._title(key)).has_answers
        ]
        if missing := [key for key in self.by_answers if key not in found]:
            text = f"{who}: it has no answers to the prompts of {', '.join(missing)}, and is not judged by them"
            self.context.events.emit("note", text=text)
        return found

    def _compare(self, trained: Contender) -> None:
        """Run the evaluators of pairs on the answers of the model and each baseline."""
        keys = [key for key, what in self.looks_at.items() if what == "pairs"]
        counting = WrittenSubject({}, "", trained.tokenizer(self.rows), self.rows, self.context) if keys else None
        others = [BASE, *self.config.judging.baselines]
        for key, who in ((key, who) for key in keys for who in others if self._kept(who, key).is_file()):
            assert counting is not None
            if not self._kept(f"vs_{who}", key).is_file():
                own, other = (json.loads(self._kept(one, key).read_text(encoding="utf-8")) for one in (MODEL, who))
                evaluator = self.config.evaluation[key]
                pair = AnswerPair(
                    self.own_rows.get(key, self.rows), own["answers"], other["answers"], who, self._work(key),
                    f"{key} against {who}", self.context, counting, named(key, evaluator, ""), self._title(key),
                )  # fmt: skip
                found = extensions.load("evaluation", evaluator.name).run(evaluator, pair)
                kept = {**self._plain(key, found, []), "pairs": pair.samples}
                write_json(self._kept(f"vs_{who}", key), kept)
            kept = json.loads(self._kept(f"vs_{who}", key).read_text(encoding="utf-8"))
            read = {metric: series.read(plain) for metric, plain in kept["metrics"].items()}
            self.pairs.setdefault(who, {}).update(read)
            for one, samples in kept["pairs"].items():
                self.samples.setdefault(one, []).extend(samples)

    def _take_in(self, who: str, names: list[str]) -> None:
        for path in (self._kept(who, name) for name in names):
            if path.is_file():
                kept = json.loads(path.read_text(encoding="utf-8"))
                read = {metric: series.read(plain) for metric, plain in kept["metrics"].items()}
                self.found.setdefault(who, {}).update(read)
                self.samples.setdefault(who, []).extend(kept["samples"])


def _exists(reference: str, registry: Registry) -> bool:
    """Tell whether a baseline is there; only an alias of the registry, or a name in it, may not be there yet."""
    ref = model_ref.parse(reference)
    if ref.scheme != "registry" or ref.is_version:
        return True
    from largeforge.registry import ModelRegistry
    from largeforge.registry.lookup import DEFAULT_ALIAS

    wanted = ref.selector or DEFAULT_ALIAS
    return any(wanted in version.aliases for version in ModelRegistry(registry).versions(ref.target))
