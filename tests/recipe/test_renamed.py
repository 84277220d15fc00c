"""Keys of older recipes: read in locks, told where somebody types them, and never taken for what is right today."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from largeforge.errors import RecipeError
from largeforge.recipe import renamed
from largeforge.recipe.compose import compose
from largeforge.recipe.schema import Deploy
from largeforge.recipe.validate import _siblings, validate

ONE = {"name": "json_schema", "definition": {}, "schema_path": "recipe:schemas/x.json"}
"""A reward as it was locked before its schema was."""
GIVEN = {**ONE, "definition": {"type": "object"}, "schema_path": ""}


def rewards(of: dict[str, Any]) -> dict[str, Any]:
    return {"method": {"name": "grpo", "rewards": {"form": of}}}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"deploy": {"rollout": {"watch_s": 7}}}, {"deploy": {"update": {"watch_s": 7}}}),
        ({"deploy": {"tls": False, "firewall": True}}, {"deploy": {"tls": {"servers": "off"}, "firewall": "nftables"}}),
        (
            {"deploy": {"tls": True, "firewall": False}},
            {"deploy": {"tls": {"servers": "self_made"}, "firewall": "off"}},
        ),
        ({"export": {"waiting_per_server": 6}}, {"export": {}, "autoscaling": {"waiting": 6}}),
        ({"hosts": {"hosts": {"a": {"workdir": "/x"}, "b": {}}}}, {"hosts": {"hosts": {"a": {}, "b": {}}}}),
        (rewards(ONE), rewards({"name": "json_schema", "definition": "recipe:schemas/x.json"})),
        (rewards(GIVEN), rewards({"name": "json_schema", "definition": {"type": "object"}})),
        (
            {"jobs": {"a": rewards(ONE), "b": {}}},
            {"jobs": {"a": rewards({"name": "json_schema", "definition": "recipe:schemas/x.json"}), "b": {}}},
        ),
        ({"deploy": None, "jobs": {}, "rollout": "canary"}, {"deploy": None, "jobs": {}, "rollout": "canary"}),
    ],
)
def test_a_recipe_of_then_is_one_of_today(old: dict[str, Any], new: dict[str, Any]) -> None:
    before = copy.deepcopy(old)
    assert renamed.recipe(old) == new
    assert old == before, "what was given stays"
    assert renamed.recipe(new) == new


def test_what_is_said_by_both_names_is_left_to_be_refused() -> None:
    both = {"deploy": {"rollout": {"watch_s": 7}, "update": {"watch_s": 8}}}
    assert renamed.recipe(both) == both


def test_only_the_recipe_of_a_lock_is_translated() -> None:
    locked = {"digest": "d" * 64, "seed": 1, "recipe": {"deploy": {"rollout": {"watch_s": 7}}}}
    assert renamed.lock(locked) == {**locked, "recipe": {"deploy": {"update": {"watch_s": 7}}}}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("deploy.rollout.strategy=fixed", "deploy.rollout = {…}: unknown key; it is deploy.update now."),
        ("deploy.rollout={watch_s: 3}", "deploy.rollout = {…}: unknown key; it is deploy.update now."),
        ("rollout.sticky=user", "rollout.sticky = 'user': unknown key; it is topology.sticky now."),
        ("hosts.hosts.box-1.workdir=x", "box-1.workdir = 'x': unknown key; there is no such thing any more."),
    ],
)  # fmt: skip
def test_who_types_an_old_key_is_told_the_new_one(word: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        validate(compose(["+recipe=deploy_support", "hosts=lab", word]))
    assert str(caught.value.problems[0]).startswith("command line: ") and said in str(caught.value)


def test_it_is_told_in_a_job_as_well() -> None:
    path = ["jobs", "a", "method", "rewards", "form", "schema_path"]
    assert renamed.told(path) == "unknown key; it is jobs.a.method.rewards.form.definition now."
    assert not renamed.told(["jobs", "a", "method", "beta"])


@pytest.mark.parametrize(("old", "new"), renamed.RENAMED.items())
def test_a_renamed_key_is_none_of_today_and_the_new_one_is(old: str, new: str) -> None:
    for key, is_there in ((old, False), (new, True)):
        *above, last = key.split(".")
        if "*" in above and "rewards" in above:
            continue  # which keys a reward has depends on its name
        assert not key or (last in _siblings([*above, last], (*above, last))) is is_there, key


@pytest.mark.parametrize("key", renamed.SPLIT)
def test_what_yes_and_no_mean_today_is_right(key: str) -> None:
    for given in (True, False):
        assert Deploy.model_validate(renamed.recipe({"deploy": {key.removeprefix("deploy."): given}})["deploy"])
