"""How a trained model is judged: beside which others, how surely, and with which engine it answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from largeforge.recipe import model_ref
from largeforge.recipe.base import Name, Strict
from largeforge.recipe.sections.models import Refers


def _valid(text: str) -> str:
    if text:
        model_ref.parse(text)
    return text


_Compared = Annotated[
    str,
    AfterValidator(_valid),
    Refers("any", may_be_missing=True),
    WithJsonSchema({"type": "string", "pattern": f"^$|^({'|'.join(model_ref.SCHEMES)}):."}),
]


class Baseline(Strict):
    """What a trained model is compared with: another model, or answers that are written down."""

    model: _Compared = ""
    """Model reference, such as `registry:support@champion`; an alias that does not exist yet is left out."""
    answers: str = ""
    """JSONL file of answers: `answers.jsonl` of another evaluation, or rows with `prompt` and `answer`."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Baseline:
        if bool(self.model) == bool(self.answers):
            raise ValueError("a baseline is either a model or a file of answers: set model or answers")
        return self


class Judging(Strict):
    """How a trained model is judged."""

    base: bool = True
    """Whether the model that training started from is judged as well, for `vs_base.<metric>`."""
    baselines: dict[Name, Baseline] = {}
    """Further models, or files of answers, to compare with, for `vs_<name>.<metric>`."""
    engine: Literal["auto", "transformers", "vllm"] = "auto"
    """What generates answers; `auto` is vLLM on a GPU where it is installed, and transformers elsewhere."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence of intervals."""
    gates: Literal["interval", "value"] = "interval"
    """What must meet a gate's condition: the whole interval of the metric, or only its value."""
    worst: int = Field(default=20, ge=0)
    """Answers kept as examples of what a model does worse than each baseline."""
