"""Every YAML under conf/, recipes/ and hosts/, found by walking, is composed, validated and planned."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from largeforge.planning import make_plan
from largeforge.recipe import extensions
from largeforge.recipe.compose import compose
from largeforge.recipe.folders import GROUP_FOLDERS, shipped_root
from largeforge.recipe.sources import choices, description
from largeforge.recipe.validate import validate

if TYPE_CHECKING:
    from largeforge.plan import Plan

ROOT = shipped_root()
CONF = ROOT / "conf"
RECIPES = choices("recipe")
CHOICES = sorted((path.parent.relative_to(CONF).as_posix(), path) for path in CONF.rglob("*/*.yaml"))
HOSTS = sorted((ROOT / GROUP_FOLDERS["hosts"]).rglob("*.yaml"))

TRAINING = {"model": "tiny_general", "dataset": "jsonl", "method": "sft", "adapter": "none", "evaluation": "loss"}
SERVING = {"topology": "quickstart", "router": "keyword", "serving": "vllm_cpu"}
PREFERENCE = {"dataset": "preference_jsonl", "method": "dpo", "evaluation": "preference_accuracy"}
"""Choices around the one that is tried: a training job, what serves, and a job on pairs of answers."""
KINDS: dict[str, dict[str, str]] = {
    "sft": {},
    "preference": PREFERENCE,
    "unpaired": {"method": "kto", "evaluation": "label_auc"},
    "text": {"method": "pretrain", "evaluation": "loss"},
    "prompt": {"method": "grpo", "evaluation": "exact_match", "reward@method.rewards": "exact_match"},
}
"""Choices of a job on rows of each kind."""
SCORING = PREFERENCE | {"method": "reward", "evaluation": "reward_accuracy"}

ROWS: dict[str, dict[str, Any]] = {
    "sft": {"messages": [{"role": "user", "content": "1 + 1 ="}, {"role": "assistant", "content": "2"}]},
    "preference": {"prompt": "1 + 1 =", "chosen": "2", "rejected": "3"},
    "unpaired": {"prompt": "1 + 1 =", "completion": "2", "label": True},
    "text": {"text": "One and one is two."},
    "prompt": {"prompt": "1 + 1 =", "answer": "2"},
    "routed": {"messages": [{"role": "user", "content": "Where is my parcel?"}], "expert": "support"},
}
"""A row of each kind, and one that says which expert answers it."""

_JUDGE = {"endpoint": "http://judge:8000/v1", "model": "judge"}
_OWN: dict[str, dict[str, Any]] = {
    "code": {"path": "prompt.jsonl", "allow_execution": True},
    "json_schema": {"definition": {"type": "object"}},
    "judge": _JUDGE,
    "lm_eval": {"tasks": ["arc_easy"]},
    "multiple_choice": {"path": "prompt.jsonl"},
    "refusal": {"path": "prompt.jsonl"},
    "regex": {"pattern": "^[0-9]+$"},
    "rubric": {**_JUDGE, "criteria": {"correct": "Is it right?"}},
    "teacher_agreement": {"teacher": "hub:Qwen/Qwen2.5-7B-Instruct"},
}
"""Settings of evaluators that have to be given."""

SIZE = {"hardware": {"cores": 2, "memory_gib": 16}}
"""Of hosts, which a plan does not ask."""
MANDATORY = {"model": "hub:Qwen/Qwen2.5-7B-Instruct"}
"""Values for keys that a file leaves open with `???`, by their last part."""
REQUIRED: dict[str, dict[str, Any]] = {
    **{f"{group}/{path.stem}": SIZE for group, path in CHOICES if group in ("monitoring", "autoscaling")},
    "autoscaling/scale_to_zero": {**SIZE, "gateway": {"queue": {"wait_s": 120}}},
    "method/distill": {"method": {"teacher": "hub:Qwen/Qwen2.5-7B-Instruct"}},
    **{f"evaluation/{name}": {"evaluation": {name: given}} for name, given in _OWN.items()},
    "quantization/nf4": {"serving": {"python": "/opt/another-vllm/bin/python"}},
    "router/chain": {"router": {"routers": {"rules": {"name": "rules"}}}},
    "router/classifier": {"routing": {"path": "routed.jsonl"}},
    "router/embedding": {"router": {"url": "http://embedder:8000", "model": "embedder"}},
    "reward/json_schema": {"method": {"rewards": {"json_schema": {"definition": {"type": "object"}}}}},
    "reward/length": {"method": {"rewards": {"length": {"maximum": 100}}}},
    "reward/regex": {"method": {"rewards": {"regex": {"pattern": "^[0-9]+$"}}}},
    "reward/reward_model": {"method": {"rewards": {"reward_model": {"model": "registry:judge@champion"}}}},
}
"""Values for keys whose default stands for none, by choice."""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work where a user would: in a folder with data of one's own."""
    monkeypatch.chdir(tmp_path)
    for name, row in ROWS.items():
        write_rows(f"{name}.jsonl", row)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_planned_with_the_command_in_its_header(name: str) -> None:
    text = RECIPES[name].read_text(encoding="utf-8")
    assert description(RECIPES[name]).endswith("."), "the first comment line describes the recipe"
    command = re.search(r"^#   python -m largeforge (?!-m)(.+)$", text, re.MULTILINE)
    assert command, "the header has the command to run it, after three spaces"
    words = shlex.split(command[1])
    assert f"+recipe={name}" in words
    for word in words:
        key, _, value = word.partition("=")
        if key.endswith("path"):
            write_rows(value, ROWS["preference" if "preference" in text else "sft"])
    plan = planned(*words)
    assert plan.stages
    made = [stage for stage in plan.stages if stage.kind != "prepare"]  # jobs on the same rows prepare the same
    assert len({stage.fingerprint for stage in made}) == len(made)


@pytest.mark.parametrize(("group", "path"), CHOICES, ids=[f"{group}/{path.stem}" for group, path in CHOICES])
def test_choice_is_planned(group: str, path: Path) -> None:
    chosen = surroundings(group, path.stem) | {"reward@method.rewards" if group == "reward" else group: path.stem}
    if (group, path.stem) == ("evaluation", "reward"):
        chosen["reward@evaluation.reward.rewards"] = "exact_match"
    values = open_values(group, path) | REQUIRED.get(f"{group}/{path.stem}", {})
    if "dataset" in chosen and "path" not in _read(CONF / "dataset" / f"{chosen['dataset']}.yaml"):
        kind = extensions.load("method", _read(CONF / "method" / f"{chosen['method']}.yaml")["name"]).DATA_KIND
        values["dataset"] = {"path": f"{kind}.jsonl"}
    write_recipe(chosen, values)
    assert planned("+recipe=attempt").stages


@pytest.mark.parametrize("path", HOSTS, ids=lambda path: path.stem)
def test_inventory_is_planned(path: Path) -> None:
    chosen = {**TRAINING, "hosts": path.stem, "launcher": "multi_node", "hardware": "cpu"}
    write_recipe(chosen, {"dataset": {"path": "sft.jsonl"}, **SIZE})
    assert planned("+recipe=attempt").stages


def test_every_yaml_was_found() -> None:
    covered = {*RECIPES.values(), *(path for _, path in CHOICES), *HOSTS, CONF / "config.yaml"}
    everything = {path for folder in ("conf", "recipes", "hosts") for path in (ROOT / folder).rglob("*.yaml")}
    assert {path for path in everything if not path.is_relative_to(ROOT / "recipes" / "data")} == covered


def surroundings(group: str, choice: str) -> dict[str, str]:
    """Return the choices among which this one makes a recipe."""
    if group in SERVING:
        return SERVING
    if group in ("monitoring", "autoscaling"):  # of what is deployed
        return {**SERVING, "hosts": "lab", "hardware": "cpu"}
    if group == "adapter":
        return {**TRAINING, "model": "qwen2_5_7b_instruct"}  # random weights take no adapter
    if group == "quantization":
        return {**TRAINING, "hardware": "h100"}  # not all are served on a CPU
    if group == "reward":
        return TRAINING | KINDS["prompt"]
    if group in ("method", "evaluation"):
        values = _read(CONF / group / f"{choice}.yaml")
        module = extensions.load(group, values[choice]["name"] if group == "evaluation" else values["name"])
        if getattr(module, "TASK_TYPE", ""):
            return TRAINING | SCORING
        kinds = module.DATA_KINDS if group == "evaluation" else (module.DATA_KIND,)
        return TRAINING | ({} if "sft" in kinds else KINDS[kinds[0]])
    if group == "dataset" and _read(CONF / group / f"{choice}.yaml").get("format") == "preference":
        return TRAINING | PREFERENCE
    return TRAINING


def open_values(group: str, path: Path) -> dict[str, Any]:
    """Return values for the keys that a file leaves open with `???`, below their group."""

    def fill(node: dict[str, Any]) -> dict[str, Any]:
        filled = {key: fill(value) for key, value in node.items() if isinstance(value, dict)}
        return {key: value for key, value in filled.items() if value} | {
            key: MANDATORY[key] for key, value in node.items() if value == "???"
        }

    found = fill(_read(path))
    return {group: found} if found else {}


def write_recipe(chosen: dict[str, str], values: dict[str, Any]) -> None:
    """Write recipes/attempt.yaml below the working directory."""
    overridden = {entry for item in _read(CONF / "config.yaml")["defaults"] if isinstance(item, dict) for entry in item}
    defaults = [{f"/{g}": choice} for g, choice in chosen.items() if g not in overridden]
    defaults += [{f"override /{g}": choice} for g, choice in chosen.items() if g in overridden]
    recipe = {"defaults": [*defaults, "_self_"], "name": "attempt", **values}
    Path("recipes").mkdir()
    Path("recipes/attempt.yaml").write_text(f"# @package _global_\n{yaml.safe_dump(recipe, sort_keys=False)}")


def write_rows(name: str, row: dict[str, Any]) -> None:
    Path(name).write_text(f"{json.dumps(row)}\n" * 50)


def planned(*words: str) -> Plan:
    composition = compose(words)
    return make_plan(validate(composition), recipe_folder=composition.recipe_folder)


def _read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))
