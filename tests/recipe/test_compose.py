"""What a command line means, and what Hydra would do with a recipe that is not ours."""

from __future__ import annotations

import pytest

from largeforge.errors import RecipeError
from largeforge.recipe.compose import check_words, compose, rewrite


def refused(words):
    with pytest.raises(RecipeError) as caught:
        check_words(words)
    return caught.value.problems


@pytest.mark.parametrize(
    ("typed", "passed_on"),
    [
        ("method.learning_rate=1", "++method.learning_rate=1"),
        ("+method.beta=1", "+method.beta=1"),
        ("++method.beta=1", "++method.beta=1"),
        ("~seed", "~seed"),
        ("method=dpo", "method=dpo"),
        ("++method=dpo", "method=dpo"),
        ("model@jobs.a.model=x", "model@jobs.a.model=x"),
        ("hydra.sweep.dir=x", "hydra.sweep.dir=x"),
        ("recipe=mine", "+recipe=mine"),
        ("++recipe=mine", "+recipe=mine"),
        ("+recipe=recipes/mine.yaml", "+recipe=mine"),
        ("+recipe=./recipes/mine.yaml,recipes/yours.yaml", "+recipe=mine,yours"),
        ("dataset.path=my rows (1).jsonl", '++dataset.path="my rows (1).jsonl"'),
        ("dataset.path='my rows.jsonl'", "++dataset.path='my rows.jsonl'"),
        ("gates.loss=< 3", '++gates.loss="< 3"'),
        ("dataset.path=größe.jsonl", '++dataset.path="größe.jsonl"'),
        ("method.packing=", "++method.packing="),
    ],
)
def test_rewrite(typed, passed_on):
    assert rewrite([typed]) == [passed_on]


@pytest.mark.parametrize(
    ("word", "key", "rule", "nearest"),
    [
        ("quickstart", "command line", "expected key=value", "+recipe=quickstart"),
        ("recipes/quickstart.yaml", "command line", "expected key=value", "+recipe=quickstart"),
        ("=3", "command line", "expected key=value", ""),
        ("3=4", "command line", "expected key=value", ""),
        ("+a.b", "command line", "expected key=value", ""),
        ("a=[1", "a", "cannot be read", ""),
        ('a="b', "a", "cannot be read", ""),
        ("seed=1,2", "seed", "need -m", ""),
        ("seed=range(3)", "seed", "need -m", ""),
        ("method=spo", "method", "there is: distill, dpo, grpo", "dpo"),
        ("method=null", "method", "to choose nothing: ~method", ""),
        ("method=../../x", "method", "name of a file", ""),
        ("method=${oc.env:HOME}", "method", "name of a file", ""),
        ("+evaluation=[loss,los]", "evaluation", "no such evaluation", "loss"),
        ("+modle@jobs.a.model=x", "modle", "no such group", "model"),
        ("+model@jobs.a.model=tiny_genral", "model", "no such model", "tiny_general"),
        ("+recipe=quickstrat", "recipe", "no such recipe", "quickstart"),
        ("+recipe=../../etc/x", "recipe", "name of a file", ""),
        ("+recipe=", "recipe", "no such recipe", ""),
    ],
)
def test_a_bad_word_is_named(word, key, rule, nearest):
    (problem,) = refused([word])
    assert (problem.key, problem.nearest) == (key, nearest)
    assert rule in problem.rule
    assert "command line" in (problem.where, problem.key)
    assert len(str(problem)) < 500


def test_all_bad_words_come_at_once():
    assert [p.key for p in refused(["+recipe=quickstart", "a=[1", "method=x", "b c"])] == [
        "a",
        "method",
        "command line",
    ]


def test_a_very_long_word_is_cut():
    assert len(str(refused([f"{'x' * 10}=[{'y' * 5000}"])[0])) < 300


def test_no_recipe_says_which_there_are():
    with pytest.raises(RecipeError, match=r"\+recipe=NAME; there is: .*quickstart.*Did you mean '\+recipe=quickstart'"):
        compose(["+recip=quickstart"])


def test_a_command_line_with_a_name_is_a_recipe():
    values = compose(["name=typed", "+model=tiny_general", "+method=sft"]).values
    assert (values["name"], values["method"]["name"]) == ("typed", "sft")


def test_own_recipe_hides_a_shipped_one(folder):
    folder.write("name: hidden\n", name="quickstart")
    assert folder.composed(name="quickstart").values["name"] == "hidden"


def test_a_recipe_needs_no_package_line(folder):
    folder.write("name: mine\nseed: 7\n")
    assert folder.composed().values["seed"] == 7


def test_a_recipe_of_another_package_is_refused(folder):
    folder.write("# @package jobs\nname: mine\n")
    assert "_global_" in folder.problems()[0].rule


def test_recipes_in_folders(folder):
    folder.write("name: deep\n", name="team/mine")
    assert folder.composed(name="team/mine").values["name"] == "deep"


def test_a_recipe_can_build_on_another(folder):
    folder.write("defaults:\n  - sft_qwen7b\n  - _self_\nname: longer\nmethod: {num_train_epochs: 9}\n")
    recipe = folder.recipe()
    assert (recipe.name, recipe.method.num_train_epochs, recipe.method.max_length) == ("longer", 9, 2048)


def test_own_conf_adds_and_replaces_choices(folder):
    folder.write("defaults: [rtx_4090, _self_]\nname: big\ncores: 64\n", name="big", folder="conf/hardware")
    folder.write("name: rtx_4090\ndevice: cuda\nmemory_gib: 23\n", name="rtx_4090", folder="conf/hardware")
    folder.write(folder.trains)
    assert folder.recipe().hardware.memory_gib == 23
    recipe = folder.recipe("hardware=big")
    assert (recipe.hardware.cores, recipe.hardware.memory_gib) == (64, 23)


def test_own_conf_cannot_replace_the_defaults_of_all(folder):
    folder.write("mode: run\nhydra: {run: {dir: /tmp}}\nseed: 99\n", name="config", folder="conf")
    folder.write("name: none\nversion: 1\n", name="none", folder="conf/hydra/job_logging")
    folder.write("name: mine\n")
    assert folder.composed().values["seed"] == 42


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("section", "name: evil\nhydra:\n  callbacks:\n    evil: {_target_: evil.Evil}\n"),
        ("launcher", "defaults:\n  - override /hydra/launcher: evil\nname: evil\n"),
        ("package", "defaults:\n  - /model@hydra.launcher: evil\nname: evil\n"),
        ("conf", "defaults:\n  - /model: evil\nname: evil\n"),
    ],
)
def test_a_recipe_gives_hydra_no_orders(folder, name, text):
    evil = "# @package hydra.callbacks.evil\n_target_: evil.Evil\n"
    for path in ("conf/hydra/launcher", "conf/model"):
        folder.write(evil, name="evil", folder=path)
    folder.write(text)
    assert any("cannot" in p.rule or "not allowed" in p.rule for p in folder.problems())


def test_choices_of_a_defaults_list_are_checked_all_at_once(folder):
    folder.write("defaults:\n  - /model: qwen\n  - /metod: sft\n  - dataset: jsonl\n  - override /hardware: rtx_4009\n")
    found = {problem.where: problem for problem in folder.problems()}
    assert found["recipes/mine.yaml:2"].rule.startswith("no such model; there is: gemma_2_27b_it")
    assert found["recipes/mine.yaml:3"].nearest == "method"
    assert "begins with a slash: `/dataset`" in found["recipes/mine.yaml:4"].rule
    assert found["recipes/mine.yaml:5"].nearest == "rtx_4090"


@pytest.mark.parametrize(
    ("defaults", "key", "where", "rule"),
    [
        ("- /hardware: cpu", "hardware", "recipes/mine.yaml:2", "is chosen already"),
        ("- override /method: sft", "method", "recipes/mine.yaml:2", "leave out the word override"),
        ("- /recipe: sft_qwen7b", "recipe", "recipes/mine.yaml:2", "write `- sft_qwen7b`"),
    ],
)
def test_a_wrong_defaults_list_says_what_to_write(folder, defaults, key, where, rule):
    folder.write(f"defaults:\n  {defaults}\nname: mine\n")
    (problem,) = folder.problems()
    assert (problem.key, problem.where) == (key, where)
    assert rule in problem.rule


@pytest.mark.parametrize(
    ("override", "key", "rule"),
    [
        ("method=dpo", "method", "to add one: +method=…"),
        ("~nothing", "nothing", "not there to be removed"),
    ],
)
def test_an_override_that_does_not_fit(folder, override, key, rule):
    folder.write("name: mine\n")
    (problem,) = folder.problems(override)
    assert (problem.key, problem.where) == (key, "command line")
    assert rule in problem.rule


def test_a_list_in_place_of_a_section(folder):
    folder.write(f"{folder.trains}method: [1, 2]\n")
    (problem,) = folder.problems()
    assert (problem.key, problem.where) == ("method", "recipes/mine.yaml:14")


def test_all_missing_values_come_at_once(folder):
    folder.write("name: ???\ndescription: a\ndefaults: [/topology: single]\n")
    assert [p.key for p in folder.problems()] == ["topology.experts.general.model", "name"]


def test_composing_twice_gives_the_same(folder):
    folder.write(folder.trains)
    assert folder.composed().values == folder.composed().values
