"""Recipes of packs, used like one's own: composed, planned, listed, mixed, and found by their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from largeforge.errors import RecipeError
from largeforge.recipe import sources
from largeforge.recipe.compose import compose
from largeforge.recipe.packs import cache
from largeforge.recipe.validate import validate
from tests.recipe.packs.conftest import METHOD, PACK, RECIPE, Author


def recipe(*words):
    return validate(compose(words))


def test_a_packs_recipe_has_its_own_choices_and_ours_and_its_own_data(using):
    found = recipe("+recipe=acme/support_bot")
    assert (found.method.name, found.method.max_steps, found.adapter.name) == ("sft", 7, "none")
    assert Path(found.dataset.path) == next(cache.root().iterdir()) / "recipes/data/shop.jsonl"
    assert found.hardware.name == "cpu"


def test_a_pack_brings_its_chat_template(work, author):
    text = "{{ messages }}"
    recipe_text = f"{RECIPE}model:\n  chat_template: recipe:data/chat.jinja\n"
    author.publish({**PACK, "recipes/data/chat.jinja": text, "recipes/support_bot.yaml": recipe_text}, tag="v1")
    work.ok("packs", "add", str(author.path), "--rev", "v1", "--as", "acme")
    assert recipe("+recipe=acme/support_bot").model.chat_template == text


def test_its_plan_comes_from_the_command_line_alone(using):
    out = using.ok("+recipe=acme/support_bot", "mode=plan")
    assert "pack:acme/data" in out
    assert "7 steps" in out
    assert "python -m largeforge +recipe=acme/support_bot" in out


@pytest.mark.parametrize("typed", ["+recipe=acme/support_bot", "recipe=acme/support_bot.yaml"])
def test_a_recipe_may_be_typed_in_several_ways(using, typed):
    assert recipe(typed).name == "support_bot"


def test_choices_of_a_pack_serve_other_recipes(using):
    found = recipe("+recipe=my_expert", "method=acme/short", "dataset=acme/shop")
    assert (found.method.max_steps, found.dataset.name) == (300, "shop")  # the recipe's own values come last
    assert found.dataset.path.endswith("recipes/data/shop.jsonl")
    found = recipe("+recipe=my_expert", "dataset.path=pack:acme/data/shop.jsonl")
    assert found.dataset.path.endswith("recipes/data/shop.jsonl")


def test_own_recipes_build_on_those_of_a_pack(using):
    text = "# @package _global_\ndefaults: [acme/support_bot, override /method: acme/short, _self_]\nseed: 9\n"
    using.write(
        "recipes/mine.yaml",
        text.replace("override /method: acme/short, _self_", "_self_, override /method: acme/short"),
    )
    assert (recipe("+recipe=mine").seed, recipe("+recipe=mine").method.max_steps) == (9, 7)


def test_a_list_of_choices_may_mix_packs_and_ours(work, author):
    author.publish({**PACK, "conf/evaluation/strict.yaml": "exact_match:\n  name: exact_match\n"}, tag="v1")
    work.ok("packs", "add", str(author.path), "--rev", "v1", "--as", "acme")
    found = recipe("+recipe=acme/support_bot", "evaluation=[loss,acme/strict]")
    assert sorted(found.evaluation) == ["exact_match", "loss"]


def test_choices_in_folders_and_groups_of_a_pack_are_found(work, author):
    files = {
        "recipes/team/bot.yaml": RECIPE.replace("/method: short", "/method: team/short").replace("support_bot", "bot"),
        "recipes/team/base.yaml": "name: base\n",
        "recipes/more.yaml": "defaults: [team/bot, {/steps@method: few}, _self_]\n",
        "conf/method/team/short.yaml": METHOD,
        "conf/steps/few.yaml": "max_steps: 3\n",
    }
    author.publish({**PACK, **files}, tag="v1")
    work.ok("packs", "add", str(author.path), "--rev", "v1", "--as", "acme")
    assert recipe("+recipe=acme/team/bot").method.max_steps == 7
    assert recipe("+recipe=acme/more").method.max_steps == 3
    assert "steps" in sources.groups()


def test_the_list_of_recipes_and_the_help_name_those_of_packs(using):
    assert "A support bot." in next(line for line in using.ok().splitlines() if line.startswith("acme/support_bot"))
    assert "acme/short" in using.ok("--help")
    assert "acme:" not in using.ok("+recipe=acme/support_bot", "--cfg", "job")


def test_a_misspelt_name_is_answered_with_the_nearest(using):
    assert "Did you mean 'acme/support_bot'?" in using.refused("+recipe=acme/suport_bot", "mode=plan")
    assert "Did you mean 'acme/short'?" in using.refused("+recipe=my_expert", "method=acme/shrt", "mode=plan")
    using.write("recipes/mine.yaml", "# @package _global_\ndefaults:\n  - acme/support_bott\n  - _self_\n")
    err = using.refused("+recipe=mine", "mode=plan")
    assert "recipes/mine.yaml:3: recipe = 'acme/support_bott': no such recipe" in err


def test_the_place_of_a_mistake_is_the_packs_file(using, author):
    err = using.refused("+recipe=acme/support_bot", "method.max_stepps=1", "mode=plan")
    assert "command line: method.max_stepps" in err
    author.publish({"conf/method/short.yaml": "defaults: [sft, _self_]\nmax_stepps: 7\n"}, tag="v1")
    err = using.refused("packs", "update", "acme")
    assert "conf/method/short.yaml:2: method.max_stepps = 7: unknown key" in err
    assert "max_steps" in err


def test_an_own_folder_with_the_name_of_a_pack_is_an_error(using):
    using.write("recipes/acme/mine.yaml", "name: mine\n")
    assert "is the name of a pack and of this folder" in using.refused("+recipe=acme/support_bot", "mode=plan")
    err = using.refused("packs", "add", "../author/recipes", "--rev", "v1", "--as", "acme")
    assert "there is a pack acme already" in err


def test_packs_in_a_recipe_are_answered_with_where_they_belong(work):
    work.write("recipes/mine.yaml", "# @package _global_\nname: mine\npacks: [{git: x, rev: y, as: z}]\n")
    err = work.refused("+recipe=mine", "mode=plan")
    assert "recipes/mine.yaml:3: packs: stands in largeforge.yaml" in err


def test_the_composition_says_which_packs_it_is_made_of(using, published, tmp_path):
    other = Author(tmp_path / "other")
    other.publish({"recipes/alone.yaml": RECIPE.replace("/method: short", "/method: sft"), **PACK}, tag="v1")
    using.ok("packs", "add", str(other.path), "--rev", "v1", "--as", "beta")
    pinned = json.loads(using.lock())["packs"]
    assert compose(["+recipe=acme/support_bot"]).packs == {"acme": pinned["acme"]}
    assert compose(["+recipe=my_expert", "dataset.path=pack:beta/data/shop.jsonl"]).packs == {"beta": pinned["beta"]}
    assert compose(["+recipe=quickstart"]).packs == {}
    assert set(pinned["acme"]) == {"git", "rev", "commit", "sha256"}


def test_a_lock_does_not_depend_on_where_the_cache_is(using, monkeypatch, tmp_path):
    from largeforge.planning import make_plan

    def locked():
        composition = compose(["+recipe=acme/support_bot"])
        return make_plan(validate(composition), recipe_folder=composition.recipe_folder, packs=composition.packs).lock

    first = locked()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    using.ok("packs", "fetch")
    assert locked()["digest"] == first["digest"]
    assert str(tmp_path / "cache") not in json.dumps({k: v for k, v in first.items() if k != "origin"})


def test_a_pack_for_another_version_is_refused(work, author):
    author.publish({**PACK, "pack.yaml": 'name: a\nlargeforge: ">=99"\n'}, tag="v1")
    err = work.refused("packs", "add", str(author.path), "--rev", "v1", "--as", "acme")
    assert "pack.yaml:2: largeforge = '>=99': the pack is not for this LargeForge" in err
    assert not (work.path / "packs.lock").exists()


def test_sweeps_over_recipes_of_packs(using):
    with pytest.raises(RecipeError, match="several values need -m"):
        compose(["+recipe=acme/support_bot,quickstart"])
    from largeforge.recipe.compose import check_words

    check_words(["+recipe=acme/support_bot,quickstart"], sweep=True)


def test_data_of_a_pack_that_was_changed_is_noticed_too(using):
    file = next(cache.root().iterdir()) / "recipes" / "data" / "shop.jsonl"
    file.chmod(0o644)
    file.write_text("{}\n")
    err = using.refused("+recipe=my_expert", "dataset.path=pack:acme/data/shop.jsonl", "mode=plan")
    assert "are not what packs.lock pins" in err
    assert using.ok("+recipe=my_expert", "dataset.path=rows.jsonl", "mode=plan")
