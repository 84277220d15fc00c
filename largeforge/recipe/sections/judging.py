"""How a trained model is judged: beside which others, how surely, with which engine; and before it is served."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from largeforge.recipe import model_ref
from largeforge.recipe.base import Name, Strict
from largeforge.recipe.evaluation import CONDITION, parse_condition
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


def _valid_condition(text: str) -> str:
    if text:
        parse_condition(text)
    return text


Condition = Annotated[
    str, AfterValidator(_valid_condition), WithJsonSchema({"type": "string", "pattern": f"^$|^{CONDITION.pattern}$"})
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


class Parity(Strict):
    """Whether what would be served is compared with what was trained, and how much of it must be the same."""

    check: Literal["auto", "always", "never"] = "auto"
    """`auto` compares on a GPU, and wherever the model was quantized, before a model is registered."""
    prompts: int = Field(default=32, gt=0)
    """Prompts to compare on, at most."""
    answer_tokens: int = Field(default=32, gt=0)
    """Longest greedy answer in tokens."""
    same_answers: Condition = ""
    """Condition on the share of prompts with the same greedy answer; empty: `>= 0.9`, of a quantized model `>= 0.5`."""
    logprob_difference: Condition = ""
    """Condition on the mean difference of log-probabilities in nats per token; empty: `<= 0.1`, of a quantized model
    `<= 0.5`."""


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
