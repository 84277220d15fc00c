"""A training job: data, method, adapter, how it is judged, and where its model goes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from largeforge.recipe.base import Name, RegistryAlias, Strict
from largeforge.recipe.evaluation import CONDITION
from largeforge.recipe.sections.choices import Adapter, Evaluator, Method, Quantization
from largeforge.recipe.sections.datasets import Dataset
from largeforge.recipe.sections.judging import Judging, Parity
from largeforge.recipe.sections.models import Model


def _flat_gates(gates: Any) -> Any:
    """Accept `vs_base: {loss: …}` for `vs_base.loss: …`: an override on the command line makes the former."""
    if not isinstance(gates, dict):
        return gates
    flat: dict[str, Any] = {}
    for metric, condition in gates.items():
        below = _flat_gates(condition) if isinstance(condition, dict) else None
        flat.update({metric: condition} if below is None else {f"{metric}.{name}": one for name, one in below.items()})
    return flat


_GATE = {"type": "string", "pattern": f"^{CONDITION.pattern}$"}
_GATES = {"anyOf": [_GATE, {"type": "object", "additionalProperties": _GATE}]}

Gates = Annotated[
    dict[str, str],
    BeforeValidator(_flat_gates),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"anyOf": [_GATE, {"type": "object", "additionalProperties": _GATES}]},
        }
    ),
]
RegistryName = Annotated[str, Field(pattern=r"^(\w[\w.-]*)?$")]


class Job(Strict):
    """One model through its life: prepare, train, evaluate, merge, quantize, register."""

    model: Model
    """Model that the job starts from."""
    dataset: Dataset
    """Rows to train on and to judge with."""
    method: Method
    """How the model is trained."""
    adapter: Adapter
    """What is trained: all weights, or additions to them."""
    evaluation: dict[Name, Evaluator] = {}
    """Evaluators by name; one that has another key than its name gives metrics that begin with the key."""
    judging: Judging = Judging()
    """How it is judged: beside which others, how surely, with which engine."""
    gates: Gates = {}
    """Metric to condition, for example `exact_match: ">= 0.85"` or `vs_base.exact_match: "> 0"`."""
    parity: Parity = Parity()
    """Comparison of what would be served with what was trained."""
    merge: bool = False
    """Whether the adapter is merged into the base after the gates."""
    quantization: Quantization | None = None
    """How the whole model is quantized before it is registered, if that proves worth it; null keeps it as it is."""
    register_as: RegistryName = ""
    """Name in the model registry; empty means that it is not registered."""
    register_alias: RegistryAlias = "champion"
    """Alias that points to the new version."""
