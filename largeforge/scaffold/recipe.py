"""The text of a new recipe: choices and the few values that are its own, everything else by default."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.errors import RecipeError, listed, nearest
from largeforge.recipe import extensions, method_checks, model_config, model_ref, sources

if TYPE_CHECKING:
    from largeforge.data.formats import Kind

METRICS = {
    "sft": ("loss", "< 0"),
    "text": ("loss", "< 0"),
    "preference": ("preference_accuracy", "> 0"),
    "unpaired": ("label_auc", "> 0"),
    "prompt": ("exact_match", "> 0"),
}
"""What models are judged by, by what their method trains on, and how they must differ from their base."""


@dataclass(frozen=True)
class Wanted:
    """What a new recipe is to do."""

    name: str
    base: str = ""
    """Recipe to build on."""
    method: str = ""
    """Training method; empty means that nothing is trained."""
    model: str = ""
    """A choice of `conf/model/`, a model reference, or a folder."""
    data: str = ""
    """Rows to train on; empty leaves them to the command line."""
    teacher: str = ""
    """What the model learns from, where its method has a teacher; as `model`."""
    adapter: str = "lora"
    hardware: str = "auto"
    serve: bool = False
    on_gpu: bool = False
    """Whether vLLM is to run on a GPU."""


def recipe_text(wanted: Wanted) -> str:
    """Return the YAML of a recipe.

    Raises RecipeError when a choice does not exist, or when there is nothing to do.
    """
    _check(wanted)
    blocks = _built_on(wanted) if wanted.base else _made(wanted)
    command = f"python -m largeforge +recipe={wanted.name}"
    if wanted.method and not wanted.data and not wanted.base:
        command += " dataset.path=FILE.jsonl"
    head = f"# @package _global_\n# {_description(wanted)}.\n#\n#   {command}\n"
    return "\n".join([head, *blocks])


def is_choice(model: str) -> bool:
    """Tell whether a model is one of `conf/model/`; otherwise it is a reference."""
    return model in sources.choices("model")


def reference(model: str, flag: str = "--model") -> str:
    """Return the reference of a model that is no choice: as it is, or `path:` for a folder.

    Raises RecipeError for what is neither.
    """
    if Path(model).is_dir() and ":" not in model:
        return f"path:{Path(model).resolve()}"
    try:
        return str(model_ref.parse(model))
    except ValueError as error:
        near = nearest(model, sources.choices("model"))
        hint = f" Did you mean '{near}'?" if near else ""
        rule = f"neither a choice of conf/model/, nor a folder, nor a reference: {error}."
        raise RecipeError(f"{flag} {model!r}: {rule}{hint}") from None


def has_teacher(method: str) -> bool:
    """Tell whether a method learns from another model."""
    return "teacher" in extensions.load("method", method).Config.model_fields


def data_kind(method: str) -> Kind:
    """Return the kind of data that a method trains on."""
    kind: Kind = extensions.load("method", method).DATA_KIND
    return kind


def _check(wanted: Wanted) -> None:
    for group, name in (("recipe", wanted.base), ("method", wanted.method), ("hardware", wanted.hardware)):
        names = sources.choices(group)
        if name and name not in names:
            near = nearest(name, names)
            hint = f" Did you mean '{near}'?" if near else ""
            raise RecipeError(f"no such {group}: {name!r}; there is: {listed(names)}.{hint}")
    if wanted.teacher and not (wanted.method and has_teacher(wanted.method)):
        rule = f"{wanted.method} has no teacher" if wanted.method else "only for a method that has a teacher"
        raise RecipeError(f"--teacher: {rule}; distill learns from another model.")
    if wanted.method and has_teacher(wanted.method) and not wanted.teacher and not wanted.base:
        given = "a choice of conf/model/, a reference such as hub:owner/name or registry:NAME@champion, a folder"
        raise RecipeError(f"--teacher is required: {wanted.method} learns from another model; give {given}.")
    if not wanted.base and not wanted.model:
        raise RecipeError("--model is required: a choice of conf/model/, a reference such as hub:owner/name, a folder.")
    if wanted.serve and wanted.method and method_checks.scores("method", wanted.method):
        raise RecipeError(f"--serve: {wanted.method} makes a model that scores and does not write; it is not served.")
    if not wanted.base and not wanted.method and not wanted.serve:
        raise RecipeError("nothing to do: give --train METHOD, --serve, or both; or --from RECIPE.")


def _built_on(wanted: Wanted) -> list[str]:
    choices = [f"- {wanted.base}"]
    sections = []
    if wanted.method:
        choices.append(f"- override /method: {wanted.method}")
    if wanted.model and is_choice(wanted.model):
        choices.append(f"- override /model: {wanted.model}")
    elif wanted.model:
        sections.append(_model(wanted.model))
    if wanted.hardware != "auto":
        choices.append(f"- override /hardware: {wanted.hardware}")
    if wanted.teacher:
        sections.append(_taught_by(wanted.teacher))
    if wanted.data:
        sections.append(_section("dataset", f"path: {_scalar(wanted.data)}"))
    if wanted.serve:
        sections.append("serve: true")
    return [_defaults(choices), _body(wanted, sections)]


def _made(wanted: Wanted) -> list[str]:
    choices: list[str] = []
    sections: list[str] = []
    if wanted.method:
        _add_training(wanted, choices, sections)
    if wanted.serve:
        _add_serving(wanted, choices, sections)
    if wanted.hardware != "auto":
        choices.append(f"- override /hardware: {wanted.hardware}")
    return [_defaults(choices), _body(wanted, sections)]


def _add_training(wanted: Wanted, choices: list[str], sections: list[str]) -> None:
    kind = data_kind(wanted.method)
    scores = method_checks.scores("method", wanted.method)
    metric, gate = ("reward_accuracy", "> 0") if scores else METRICS[kind]
    fields = extensions.load("method", wanted.method).Config.model_fields
    if is_choice(wanted.model):
        choices.append(f"- /model: {wanted.model}")
    else:
        sections.append(_model(wanted.model))
    choices += [
        f"- /dataset: {'preference_jsonl' if kind == 'preference' else 'jsonl'}", f"- /method: {wanted.method}",
        *(["- /reward@method.rewards: exact_match"] if "rewards" in fields else []), f"- /adapter: {wanted.adapter}",
        f"- /evaluation: {metric}",
    ]  # fmt: skip
    if wanted.teacher:
        sections.append(_taught_by(wanted.teacher))
    if wanted.data:
        sections.append(_section("dataset", f"path: {_scalar(wanted.data)}"))
    sections.append(_section("gates", f'vs_base.{metric}: "{gate}"'))
    if wanted.serve and wanted.adapter != "none":
        sections.append("merge: true")
    sections.append(f"register_as: {wanted.name.replace('_', '-')}")


def _add_serving(wanted: Wanted, choices: list[str], sections: list[str]) -> None:
    if wanted.method:
        served = "job:main" if wanted.adapter == "none" else "job:main/merge"
    elif is_choice(wanted.model):
        served = "served"
        choices.append(f"- /model@models.{served}: {wanted.model}")
    else:
        served = _scalar(reference(wanted.model))
    serving = "vllm_gpu" if wanted.on_gpu else "vllm_cpu"
    choices += ["- /topology: single", "- /router: keyword", f"- /serving: {serving}"]
    sections += [f"topology:\n  experts:\n    general:\n      model: {served}", "serve: true"]


def _defaults(choices: list[str]) -> str:
    return "\n".join(["defaults:", *(f"  {choice}" for choice in [*choices, "- _self_"])]) + "\n"


def _body(wanted: Wanted, sections: list[str]) -> str:
    lines = [f"name: {_scalar(wanted.name)}", f"description: {_scalar(_description(wanted))}", *sections]
    return "\n".join(lines) + "\n"


def _model(model: str) -> str:
    found = reference(model)
    label = re.sub(r"[^\w.-]+", "-", found.partition(":")[2].rpartition("/")[2] or found).strip("-")
    return _section("model", f"name: {_scalar(label)}", f"ref: {_scalar(found)}")


def _taught_by(teacher: str) -> str:
    """Return the section that names the teacher; of a choice of `conf/model/` its reference."""
    choice = model_config.library_model(sources.choices("model")[teacher]) if is_choice(teacher) else None
    found = choice.ref if choice else reference(teacher, "--teacher")
    return _section("method", f"teacher: {_scalar(found)}")


def _section(key: str, *lines: str) -> str:
    return "\n".join([f"{key}:", *(f"  {line}" for line in lines)])


def _scalar(text: str) -> str:
    """Return text as a YAML value, in quotes where it needs them."""
    plain = re.fullmatch(r"[A-Za-z/.][\w ./,:@+-]*[\w/]|[A-Za-z]", text) and ": " not in text
    word = text.lower() in ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
    return text if plain and not word and not re.match(r"\.\d|\.(inf|nan)$", text) else json.dumps(text)


def _description(wanted: Wanted) -> str:
    data = f" on {wanted.data}" if wanted.data else ""
    if wanted.base:
        return f"{wanted.base}{data or ', changed'}"
    if not wanted.method:
        return f"Serve {wanted.model} behind the gateway until Ctrl-C"
    how = "" if wanted.adapter == "none" else f" with {wanted.adapter}"
    return f"Train {wanted.model} by {wanted.method}{how}{data or ' on your own data'}{', and serve it' * wanted.serve}"
