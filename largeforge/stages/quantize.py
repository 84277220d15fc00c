"""Quantize a whole model, and keep the result only where it is worth it on the hardware that it is for.

Each choice of the recipe is tried in turn: made in a process of its tool's environment, served by vLLM beside the
original, measured, judged. The first that is accepted becomes the artifact, with `quantization.json` in its folder;
`none` keeps the original. What is finished is kept in `work/`, so that a run that was killed goes on there.
"""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import write_json
from largeforge.errors import GateError, ServingError, StageError
from largeforge.quantizing import acceptance, folder, process, prompts
from largeforge.quantizing.acceptance import Measured, Side, Verdict
from largeforge.quantizing.measuring import Measuring
from largeforge.recipe import extensions
from largeforge.recipe.base import Strict
from largeforge.recipe.quantization import NONE, Acceptance, plain
from largeforge.recipe.schema import Serving
from largeforge.stages.context import Result
from largeforge.stages.loading import load_tokenizer
from largeforge.stages.models import ResolvedModel, checked_folder

if TYPE_CHECKING:
    from largeforge.quantizing.prompts import Calibration, Prompt
    from largeforge.stages.context import Context

DONE, MEASURED = "done.json", "measured.json"


class Config(Strict):
    """What to try, and what the result must show."""

    choices: list[dict[str, Any]]
    """Settings of the quantizers, in the order in which they are tried."""
    environments: dict[str, list[str]] = {}
    """Pinned packages of each environment that they run in."""
    calibration_rows: int
    calibration_length: int
    acceptance: Acceptance
    serving: Serving
    device: str
    machine: str = ""
    """Kind of hardware that it is measured on: on another kind it is another question."""
    seed: int
    chat_template: str = ""
    """Text of the chat template that the recipe gives."""


def run(config: Config, context: Context) -> Result:
    """Write the accepted model.

    Raises GateError with why when none was accepted.
    """
    quantizing = _Quantizing(config, context)
    with quantizing.stack:
        return quantizing.run()


class _Quantizing:
    """One run of the stage."""

    def __init__(self, config: Config, context: Context):
        self.config, self.context = config, context
        self.original = checked_folder(context.inputs["model"])
        self.refused: list[dict[str, Any]] = []
        self.stack = ExitStack()
        self.measuring: Measuring | None = None
        context.events.emit("note", text="loading the tokenizer and drawing rows")
        self.tokenizer = load_tokenizer(
            ResolvedModel(str(self.original), context.stage), renders=False, chat_template=config.chat_template
        )

    def run(self) -> Result:
        for number, settings in enumerate(self.config.choices):
            name = str(settings["name"])
            if name == NONE:
                return self._keep_original()
            work = self.context.work / f"{number}-{name}"
            record, measured = self._attempt(name, settings, work)
            if measured is None:
                continue
            verdict = acceptance.accepts(measured, self.config.acceptance)
            self._show(name, verdict)
            if verdict.accepted:
                return self._accept(name, work / "model", record, measured, verdict)
            self._refuse(name, verdict.refusal, verdict)
        told = "; ".join(f"{one['method']}: {one['why']}" for one in self.refused)
        raise GateError(
            f"no quantized model is accepted: {told}. To keep the original then: quantization.fallback=[none]"
        )

    def _attempt(self, name: str, settings: dict[str, Any], work: Path) -> tuple[dict[str, Any], Measured | None]:
        """Return what is recorded of one choice and what was measured; nothing where it could not be made or served."""
        try:
            record = self._made(name, settings, work)
            return record, self._measured(name, work)
        except (StageError, ServingError) as error:
            self._refuse(name, str(error), None)
            return {}, None

    def _made(self, name: str, settings: dict[str, Any], work: Path) -> dict[str, Any]:
        """Quantize, unless an earlier attempt has; return the record."""
        done = work / DONE
        if done.is_file():
            return dict(json.loads(done.read_text(encoding="utf-8")))
        shutil.rmtree(work, ignore_errors=True)
        made = work / "model"
        made.mkdir(parents=True)
        module = extensions.load("quantization", name)
        drawn = self._calibration() if module.calibrated(module.Config(**settings)) else None
        job = {
            "model": str(self.original), "out": str(made), "device": self.config.device,
            "rows": drawn.rows if drawn else [],
        }  # fmt: skip
        there = process.environment(
            module.ENVIRONMENT, self.config.environments.get(module.ENVIRONMENT, []), self._note
        )
        quantized = process.quantize(name, settings, job, there, self.context.events)
        folder.complete(self.original, made)
        size = {"before": folder.weights_bytes(self.original), "after": folder.weights_bytes(made)}
        record = {
            "method": name, "settings": plain(settings), "calibration": drawn.record() if drawn else None,
            "size_bytes": size, **quantized.record(),
        }  # fmt: skip
        write_json(done, record)
        return record

    def _measured(self, name: str, work: Path) -> Measured:
        """Measure, unless an earlier attempt has."""
        path = work / MEASURED
        if path.is_file():
            return _read(path)
        if self.measuring is None:
            self.measuring = self.stack.enter_context(
                Measuring(
                    self.original,
                    self._prompts(),
                    self.config.acceptance,
                    serving=self.config.serving,
                    device=self.config.device,
                    logs=work.parent / "logs",
                    report=self._note,
                )
            )
        at_load = getattr(extensions.load("quantization", name), "AT_LOAD", False)
        found = self.measuring.compare(work / "model", at_load=at_load)
        write_json(path, asdict(found))
        return found

    def _calibration(self) -> Calibration:
        return prompts.calibration(
            self.context.inputs["data"] / "train.jsonl",
            self.tokenizer,
            count=self.config.calibration_rows,
            length=self.config.calibration_length,
            seed=self.config.seed,
        )

    def _prompts(self) -> list[Prompt]:
        rules = self.config.acceptance
        found = prompts.judged(
            self.context.inputs["data"] / "heldout.jsonl", self.tokenizer, count=rules.judged_rows,
            length=self.config.calibration_length, seed=self.config.seed,
        )  # fmt: skip
        if not found:
            raise GateError(
                "there are no held-out rows to compare a quantized model with the original on, or all are longer than "
                f"quantization.calibration_length = {self.config.calibration_length} tokens"
            )
        return found

    def _accept(self, name: str, made: Path, record: dict[str, Any], measured: Measured, verdict: Verdict) -> Result:
        folder.keep(made, self.context.out)
        told = {**record, "verdict": verdict.as_dict(), "agreement": measured.agreement, "refused": self.refused}
        write_json(self.context.out / folder.RECORD, told)
        self._note(f"{name} is accepted: it takes the place of the original")
        return Result(metrics=_metrics(measured, record), info={"method": name, **self._tried()})

    def _keep_original(self) -> Result:
        folder.keep(self.original, self.context.out)
        write_json(self.context.out / folder.RECORD, {"method": NONE, "refused": self.refused})
        self._note("the original is kept as it is")
        return Result(info={"method": NONE, **self._tried()})

    def _refuse(self, name: str, why: str, verdict: Verdict | None) -> None:
        self.refused.append({"method": name, "why": why, "verdict": verdict.as_dict() if verdict else None})
        self._note(f"{name} is refused: {why}")

    def _tried(self) -> dict[str, Any]:
        return {"refused": {one["method"]: one["why"] for one in self.refused}}

    def _show(self, name: str, verdict: Verdict) -> None:
        self.context.events.emit(
            "table", title=f"{name} beside the original", columns=list(acceptance.COLUMNS), rows=verdict.table()
        )

    def _note(self, text: str) -> None:
        self.context.events.emit("note", text=text)


def _metrics(measured: Measured, record: dict[str, Any]) -> dict[str, float]:
    """Return what the manifest keeps of an accepted model."""
    before, after = measured.original, measured.quantized
    mean, _ = acceptance.difference(before.scores, after.scores, 0.95)
    ratios = [quick / slow for slow, quick in zip(before.tokens_per_s, after.tokens_per_s, strict=True)]
    return {
        "size_ratio": after.size_bytes / before.size_bytes, "memory_ratio": after.memory_bytes / before.memory_bytes,
        "speed_ratio": median(ratios), "tokens_per_s": median(after.tokens_per_s), "score_difference": mean,
        "agreement": measured.agreement, "quantizing_seconds": float(record["seconds"]),
    }  # fmt: skip


def _read(path: Path) -> Measured:
    kept = json.loads(path.read_text(encoding="utf-8"))
    return Measured(_side(kept["original"]), _side(kept["quantized"]), kept["agreement"], kept["at_load"])


def _side(kept: dict[str, Any]) -> Side:
    return Side(**{**kept, **{key: tuple(kept[key]) for key in ("tokens_per_s", "scores")}})
