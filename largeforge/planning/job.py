"""What the stages of one training job have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.recipe import extensions, method_checks, model_ref, quantization
from largeforge.recipe.lock import portable

if TYPE_CHECKING:
    from largeforge.hardware import Machine
    from largeforge.recipe.further_models import Named
    from largeforge.recipe.schema import Job, Recipe


class PlannedJob:
    """A training job with what its stages have in common."""

    def __init__(
        self,
        name: str,
        recipe: Recipe,
        found: Machine,
        *,
        recipe_digest: str,
        recipe_folder: str,
        hashes: dict[str, str],
        beside: int,
    ):
        self.name, self.recipe, self.machine = name, recipe, found
        self.recipe_digest = recipe_digest
        self.hashes = hashes  # what identifies the content of each path that the recipe names
        self.threads = max(1, found.cores // beside)  # shared with the jobs that can train side by side
        self.job: Job = recipe.training_jobs[name]
        self.ref = model_ref.parse(self.job.model.ref)
        self.base = self._base()
        self.shown_path = ", ".join(portable(self.job.dataset.titles, recipe_folder))

    def stage(self, kind: str) -> str:
        """Return the name of one of the job's stages."""
        return stage_name(self.recipe, self.name, kind)

    def _base(self) -> dict[str, str]:
        """Return the input that holds the starting model; empty when a reference finds it."""
        if self.ref.scheme == "tiny":
            return {"base": self.stage("init")}
        if self.ref.scheme == "job":
            return {"base": stage_name(self.recipe, self.ref.target, self.ref.selector or "train")}
        return {}

    def made_here(self, named: list[Named]) -> dict[str, str]:
        """Return the inputs that hold further models which other jobs make."""
        refs = {one.reference: model_ref.parse(one.reference) for one in named if one.reference.startswith("job:")}
        return {text: stage_name(self.recipe, ref.target, ref.selector or "train") for text, ref in refs.items()}

    def is_fixed(self, named: list[Named]) -> bool:
        """Whether all models are known before the run; an alias of the registry may move."""
        return not any(text.startswith("registry:") for text in (self.job.model.ref, *outside(named)))

    @property
    def reference(self) -> str:
        """Reference of the model that it starts from; empty where another stage makes that."""
        return "" if self.base else self.job.model.ref

    @property
    def template(self) -> dict[str, str]:
        """Return the chat template that the recipe gives, for stages that write out conversations."""
        return {"chat_template": self.job.model.chat_template} if self.job.model.chat_template else {}

    @property
    def contenders(self) -> list[str]:
        """Who is judged."""
        return ["model", *(["base"] if self.job.judging.base else []), *self.job.judging.baselines]

    @property
    def judged(self) -> str:
        """Name of the stage with the last word on the trained model."""
        return self.stage("gate" if self.job.gates else "evaluate")

    @property
    def is_quantized(self) -> bool:
        """Whether the model is quantized."""
        return quantization.is_quantized(self.job) and not self.recipe.sweep.trial

    @property
    def made(self) -> str:
        """The kind of stage whose model is registered."""
        return "quantize" if self.is_quantized else "merge" if self.job.merge else "train"

    @property
    def compares(self) -> bool:
        """Whether what would be served is compared with what was trained."""
        check = self.job.parity.check
        if check != "auto" or self.recipe.sweep.trial:
            return check == "always" and not self.recipe.sweep.trial
        answers = extensions.load("method", self.job.method.name).DATA_KIND != "text" and not self._scores
        served_here = self.machine.device == "cuda" or self.is_quantized
        return bool(self.job.register_as) and answers and served_here

    @property
    def _scores(self) -> bool:
        return method_checks.scores("method", self.job.method.name)


def outside(named: list[Named]) -> tuple[str, ...]:
    """Return the references that no job of the recipe makes, each once."""
    return tuple(dict.fromkeys(one.reference for one in named if one.reference and one.reference[:4] != "job:"))


def stage_name(recipe: Recipe, job: str, kind: str) -> str:
    """Return the name of a job's stage: `train`, or `mapper.train` where there are several jobs."""
    return f"{job}.{kind}" if recipe.jobs else kind
