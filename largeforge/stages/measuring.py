"""Every evaluator on every model of a comparison, with the engine that fits; what is finished is kept in `work/`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import write_json
from largeforge.judging import series
from largeforge.recipe import extensions, further_models, model_ref
from largeforge.stages import contenders
from largeforge.stages.contenders import Contender
from largeforge.stages.loading import Base, task_type
from largeforge.stages.models import ResolvedModel, checked_folder
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
        named = further_models.of_settings("evaluation", config.evaluation)
        self.others = OtherModels(context, config.registry, named, device=config.device, precision="auto")
        self.absent: list[str] = []
        self.found: dict[str, dict[str, Series]] = {}
        self.samples: dict[str, list[dict[str, Any]]] = {}
        modules = {name: extensions.load("evaluation", one.name) for name, one in config.evaluation.items()}
        self.by_answers = [name for name, module in modules.items() if getattr(module, "JUDGES", "") == "answers"]

    def run(self) -> tuple[dict[str, dict[str, Series]], dict[str, list[dict[str, Any]]]]:
        """Return, for each contender, its metrics and its answers."""
        config, everything = self.config, list(self.config.evaluation)
        served = self.by_answers if self._is_served() else []
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
                self._measure(name, answers, self.by_answers)
        for who in [BASE, *config.judging.baselines, MODEL]:
            self._take_in(who, everything)
        return self.found, self.samples

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
        if not self.by_answers or engine == "transformers":
            return False
        return engine == "vllm" or (self.config.device == "cuda" and bool(serving.python or find_spec("vllm")))

    def _unfinished(self, who: str, names: list[str]) -> bool:
        return not all(self._kept(who, name).is_file() for name in names)

    def _kept(self, who: str, name: str) -> Path:
        return self.context.work / "measured" / f"{who}.{name}.json"

    def _measure(self, who: str, subject: Subject, names: list[str]) -> None:
        for name in names:
            if self._kept(who, name).is_file():
                continue
            evaluator = self.config.evaluation[name]
            subject.label, subject.samples = f"{name} of {who}", []
            found = extensions.load("evaluation", evaluator.name).run(evaluator, subject)
            plain = {metric: one.as_dict() for metric, one in found.items()}
            write_json(self._kept(who, name), {"metrics": plain, "samples": subject.samples})

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
