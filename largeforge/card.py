"""The card of a model: README.md in the form of the Hugging Face Hub, from facts alone.

Says what was recorded and nothing else: what the model starts from and under which licence, the data with
its hash, method and settings, what was measured beside the base, and how to make it again. Holds no path
of the machine, no password, no time: equal trainings have equal cards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import largeforge
from largeforge.secrets import without_passwords

LICENSES = {
    "Apache-2.0": (
        "apache-2.0",
        "It may be used, changed and passed on, commercially too; its text and notices go with it, changes are stated.",
    ),
    "MIT": (
        "mit",
        "It may be used, changed and passed on, commercially too; its text and copyright notice go with it.",
    ),
    **{
        f"Llama {version} Community License": (
            f"llama{version}",
            "The name of a derived model begins with 'Llama', and 'Built with Llama' is shown where it is offered; the "
            "licence and its acceptable use policy go with it. Above 700 million monthly users Meta must agree.",
        )
        for version in ("3.1", "3.2", "3.3")
    },
    "Gemma Terms of Use": (
        "gemma",
        "The terms and the prohibited use policy go with a derived model and bind those who get it; changes are told.",
    ),
    "Qwen License": (
        "other",
        "The licence goes with a derived model, and changes are stated. Above 100 million monthly users Alibaba Cloud "
        "must agree.",
    ),
    "Qwen Research License": ("other", "For research and evaluation only: commercial use needs another licence."),
}
"""Licence, as `conf/model/` names it, to its id on the Hub and to what follows for a model that is made from it."""
_UNKNOWN = "Its licence is not stated in the recipe: find it out before the model is passed on."
_OTHER = "What follows from it for a model that is made from it stands in its text."
_HUB = "hub:"
_BASE = "base."


@dataclass(frozen=True)
class Data:
    """One file that the model learnt from, or was judged on."""

    path: str
    sha256: str = ""


@dataclass(frozen=True)
class Gate:
    """A condition that the model had to meet."""

    metric: str
    condition: str
    value: float | None
    passed: bool


@dataclass(frozen=True)
class Facts:
    """All that a card may say."""

    title: str
    recipe: str = ""
    description: str = ""
    base: str = ""
    """Reference of the model that the training started from; empty or `tiny:` for random weights."""
    origin: str = ""
    """The first model of the chain, where the base was itself made by a recipe."""
    license: str = ""
    """Licence of the first model, as `conf/model/` names it."""
    method: str = ""
    adapter: str = "none"
    merged: bool = False
    """Whether the adapter is part of the weights."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of method and adapter by their dotted name."""
    data: tuple[Data, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    """`train` and `held out` to their number of rows."""
    results: Mapping[str, float] = field(default_factory=dict)
    """Of the training: loss, steps, tokens."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the evaluation, those of the base under `base.`."""
    gates: tuple[Gate, ...] = ()
    lock: str = ""
    seed: int | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    python: str = ""
    hardware: str = ""
    registered: str = ""
    """Name and alias in the registry, such as `support-bot@champion`."""


def card(facts: Facts) -> str:
    """Return the card as Markdown with YAML in front."""
    parts = [
        _front_matter(facts), f"# {_line(facts.title)}", _opening(facts), _base(facts), _data(facts), _training(facts),
        _results(facts), _limits(facts), _reproduction(facts),
    ]  # fmt: skip
    return str(without_passwords("\n\n".join(part for part in parts if part))) + "\n"


def _front_matter(facts: Facts) -> str:
    """Return the metadata that the Hub reads; JSON's scalars and lists are YAML's."""
    is_adapter = facts.adapter != "none" and not facts.merged
    hub = (facts.origin or facts.base).removeprefix(_HUB) if _HUB in (facts.origin or facts.base) else ""
    identity = LICENSES.get(facts.license, ("other", ""))[0] if facts.license else ""
    scores = facts.method == "reward"
    entries: dict[str, Any] = {
        "base_model": hub.partition("@")[0],
        "base_model_relation": ("adapter" if is_adapter else "finetune") if hub else "",
        "license": identity,
        "license_name": facts.license.lower().replace(" ", "-") if identity == "other" else "",
        "datasets": [_dataset(data.path) for data in facts.data if _dataset(data.path)],
        "library_name": "peft" if is_adapter else "transformers",
        "pipeline_tag": "text-classification" if scores else "text-generation",
        "tags": [tag for tag in ("largeforge", "trl", facts.method, facts.adapter) if tag and tag != "none"],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items() if value]
    return "\n".join(["---", *lines, "---"])


def _dataset(path: str) -> str:
    """Return the Hub's name of a data set, or nothing for a file from elsewhere."""
    name = path.removeprefix("hf://datasets/")
    return "/".join(name.split("/")[:2]) if name != path else ""


def _opening(facts: Facts) -> str:
    what = "Weights" if facts.adapter == "none" else f"Weights with a merged {facts.adapter} adapter"
    what = f"A {facts.adapter} adapter" if facts.adapter != "none" and not facts.merged else what
    start = "from random weights" if not _started_from(facts) else f"from `{shown(_started_from(facts))}`"
    told = f" {_line(facts.description)}." if facts.description else ""
    return f"{what}, trained {start} with `{facts.method}` by the recipe `{facts.recipe}` of LargeForge.{told}"


def _started_from(facts: Facts) -> str:
    return "" if facts.base.startswith("tiny:") else facts.base


def _base(facts: Facts) -> str:
    if not _started_from(facts):
        return "## Base and licence\n\nThere is no base model: the licence is that of whoever trained it."
    chain = f", which goes back to `{shown(facts.origin)}`" if facts.origin and facts.origin != facts.base else ""
    known = LICENSES.get(facts.license, ("", _OTHER))[1] if facts.license else _UNKNOWN
    named = f"Licence of the base: {facts.license}. " if facts.license else ""
    return f"## Base and licence\n\nBase: `{shown(facts.base)}`{chain}. {named}{known}"


def _data(facts: Facts) -> str:
    rows = [[f"`{shown(data.path)}`", f"`{data.sha256}`" if data.sha256 else "not known"] for data in facts.data]
    counts = ", ".join(f"{count} {name}" for name, count in facts.rows.items())
    told = f"\n\nRows: {counts}." if counts else ""
    return f"## Data\n\n{_table(['file', 'sha256'], rows)}{told}" if rows or counts else ""


def _training(facts: Facts) -> str:
    settings = [[f"`{key}`", f"`{_value(value)}`"] for key, value in facts.settings.items()]
    results = ", ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in facts.results.items())
    told = f"At the end: {results}.\n\n" if results else ""
    return f"## Training\n\n{told}{_table(['setting', 'value'], settings)}" if settings or results else ""


def _results(facts: Facts) -> str:
    compared = {name[3:].partition(".")[0] for name in facts.metrics if name.startswith("vs_")}
    own = [name for name in facts.metrics if not name.startswith(("vs_", *(f"{who}." for who in compared)))]
    rows = [[name, _value(facts.metrics.get(f"{_BASE}{name}", "")), _value(facts.metrics[name])] for name in own]
    judged = _table(["held-out metric", "base", "model"], rows) if rows else ""
    gates = [
        [gate.metric, f"`{gate.condition}`", _value(gate.value), "passed" if gate.passed else "failed"]
        for gate in facts.gates
    ]
    conditions = _table(["gate", "condition", "value", ""], gates) if gates else ""
    body = "\n\n".join(part for part in (judged, conditions) if part)
    return f"## Results\n\n{body}" if body else ""


def _limits(facts: Facts) -> str:
    """Return what was not measured; guesses about uses have no place here."""
    heldout = facts.rows.get("held out", 0)
    told = [f"It was judged on {heldout} rows held out of the same data, and on nothing else."]
    if not facts.metrics:
        told = ["It was not judged: there are no results."]
    length = facts.settings.get("method.max_length")
    told += [f"It was trained on rows of up to {length} tokens."] if length else []
    told += ["Safety, bias and memorised text were not examined."]
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in told)


def _reproduction(facts: Facts) -> str:
    commands = [f"python -m largeforge reproduce={facts.lock[:12]}"] if facts.lock else []
    if facts.registered:
        commands.insert(0, f"python -m largeforge reproduce=registry:{facts.registered}")
    about = [
        f"- lock: `{facts.lock}`" if facts.lock else "",
        f"- LargeForge {largeforge.__version__}" + (f", Python {facts.python}" if facts.python else ""),
        f"- hardware: {facts.hardware}" if facts.hardware else "",
        f"- seed: {facts.seed}" if facts.seed is not None else "",
        "- packages: " + ", ".join(f"{name} {version}" for name, version in facts.packages.items())
        if facts.packages
        else "",
    ]
    shell = "```\n" + "\n".join(commands) + "\n```\n\n" if commands else ""
    return f"## Make it again\n\n{shell}" + "\n".join(line for line in about if line)


def shown(text: str) -> str:
    """Return a path or reference without the folders of this machine."""
    scheme, colon, rest = text.rpartition(":") if not text.startswith("/") else ("", "", text)
    if rest.startswith(("/", "~")) and "//" not in rest[:2]:
        rest = PurePosixPath(rest).name
    return f"{scheme}{colon}{rest}"


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_line(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _line(text: str) -> str:
    return " ".join(text.split())


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else shown(value) if isinstance(value, str) else str(value)
