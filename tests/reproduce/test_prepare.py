"""From a recorded run to a plan that runs it again: what matches, what stops it, what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from largeforge import runs
from largeforge.errors import RecipeError
from largeforge.recipe import lock as locks
from largeforge.recipe.lock import digest_of
from largeforge.recipe.schema import Registry
from largeforge.recorded import Recorded, find
from largeforge.reproduce.prepare import Reproduction, prepare

if TYPE_CHECKING:
    from tests.fakes.recorded import Desk

COMMIT = "c" * 40
NOT_TINY = ("~model.tokenizer", "~model.architecture")


def again(*words: str, target: str = "latest:small") -> Reproduction:
    return prepare(find(target, root=Path("runs"), registry=Registry()), words)


def verdicts(found: Reproduction) -> dict[str, str]:
    return {match.what: match.verdict for match in found.matches}


def changed(desk: Desk, **sections: Any) -> Recorded:
    """Return the lock of the recipe with other content, and the digest that goes with it."""
    lock = {**desk.plan().lock, **sections}
    return Recorded("theirs", {**lock, "digest": digest_of(lock)})


def test_everything_matches_right_after_the_run(desk: Desk) -> None:
    run = desk.record()
    found = again()
    assert set(verdicts(found).values()) == {"exact"}
    assert found.plan.digest == desk.plan().digest
    assert found.plan.lock["origin"]["reproduces"] == found.recorded.digest
    assert found.plan.recipe.runs.root == "runs/reproduced"
    assert run.is_dir()


def test_the_recipe_of_today_does_not_matter(desk: Desk) -> None:
    desk.record()
    recipe = desk.path / "recipes" / "small.yaml"
    recipe.write_text(recipe.read_text().replace("max_steps", "nonsense") + "seed: 7\n")
    assert again().plan.recipe.seed == 42
    recipe.unlink()
    assert set(verdicts(again()).values()) == {"exact"}


def test_nothing_is_registered_or_served(desk: Desk) -> None:
    desk.record()
    assert [stage.kind for stage in again().plan.stages] == ["prepare", "init", "train", "evaluate", "gate"]


def test_finished_stages_are_not_reused_and_an_interrupted_reproduction_continues(desk: Desk) -> None:
    desk.record()
    plan = again().plan
    assert (plan.recipe.runs.resume, {stage.reusable for stage in plan.stages}) == (False, {False})
    with runs.opened(plan) as begun:
        assert begun.path.is_relative_to(desk.path / "runs" / "reproduced" / "small")
    assert again().plan.recipe.runs.resume is True
    for stage in plan.stages:
        desk._finish(begun, stage.name, stage.kind, stage.fingerprint, b"w", {})
    assert again().plan.recipe.runs.resume is False
    assert again("runs.resume=true").plan.recipe.runs.resume is True


def test_changed_data_stop_it_unless_that_is_allowed(desk: Desk) -> None:
    desk.record()
    desk.write_rows(4)
    found = again("mode=plan")
    assert verdicts(found)["dataset.path"] == "differs"
    with pytest.raises(RecipeError, match=r"dataset\.path.*holds other data.*reproduce\.allow=\[datasets\]"):
        found.check()
    allowed = again("reproduce.allow=[datasets]")
    allowed.check()
    assert verdicts(allowed)["dataset.path"] == "differs"


def test_missing_data_stop_it_until_they_are_found_elsewhere(desk: Desk) -> None:
    desk.record()
    (desk.path / "words.jsonl").rename(desk.path / "moved.jsonl")
    with pytest.raises(RecipeError, match=r"the data is not here.*dataset\.path=PATH"):
        again("reproduce.allow=datasets").check()
    found = again("dataset.path=moved.jsonl")
    found.check()
    assert verdicts(found)["dataset.path"] == "exact"
    assert verdicts(found)["recipe.dataset.path"] == "differs"


def test_other_versions_and_hardware_are_told_and_do_not_stop_it(desk: Desk) -> None:
    lock = desk.plan().lock
    packages = {**lock["packages"], "torch": "1.0", "gone": "2.0"}
    origin = {"processor": "another", "driver": "5", "git": {"commit": COMMIT, "dirty": True}}
    recorded = changed(desk, packages=packages, python="3.9.1", origin=origin)
    found = prepare(recorded, [])
    found.check()
    told = verdicts(found)
    assert {key for key, verdict in told.items() if verdict == "differs"} == {
        "python", "package torch", "package gone", "processor",
    }  # fmt: skip
    assert (told["driver"], told["git commit"]) == ("unknown", "unknown")


def test_the_locked_number_of_cores_is_asked_for(desk: Desk) -> None:
    lock = desk.plan("hardware.cores=0").lock
    hardware = {**lock["hardware"], "cores": 7}
    recorded = changed(desk, recipe=lock["recipe"], hardware=hardware)
    found = prepare(recorded, [])
    assert {stage.threads for stage in found.plan.stages if stage.kind == "train"} == {7}
    assert verdicts(found)["hardware.cores"] == verdicts(found)["recipe.hardware.cores"] == "exact"
    assert prepare(recorded, ["hardware.cores=3"]).plan.machine.cores == 3


def test_a_branch_of_the_hub_is_pinned_to_the_commit_that_was_used(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(desk.path / "hub"))
    lock = desk.plan("model.ref=hub:org/name", *NOT_TINY).lock
    resolved = {"stages": {"train": {"model": "hub:org/name", "revision": COMMIT}}}
    found = prepare(changed(desk, recipe=lock["recipe"], resolved=resolved), [])
    assert found.plan.recipe.training_jobs["main"].model.ref == f"hub:org/name@{COMMIT}"
    assert verdicts(found)["recipe.model.ref"] == "exact"
    assert verdicts(found)[f"model hub:org/name@{COMMIT}"] == "unknown"
    (desk.path / "hub" / "models--org--name" / "snapshots" / COMMIT).mkdir(parents=True)
    assert verdicts(prepare(changed(desk, recipe=lock["recipe"], resolved=resolved), []))[
        f"model hub:org/name@{COMMIT}"
    ] == "exact"  # fmt: skip


def test_an_alias_is_pinned_to_the_version_that_was_used(desk: Desk) -> None:
    lock = desk.plan("model.ref=registry:base@champion", *NOT_TINY).lock
    models = {"registry:base@champion": {"reference": "registry:base/3", "sha256": "a"}}
    found = prepare(changed(desk, recipe=lock["recipe"], models=models), [])
    assert found.plan.recipe.training_jobs["main"].model.ref == "registry:base/3"


def test_a_changed_base_model_stops_it_unless_that_is_allowed(desk: Desk) -> None:
    model = desk.path / "base"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"a")
    recorded = Recorded("theirs", desk.plan(f"model.ref=path:{model}", *NOT_TINY).lock)
    prepare(recorded, []).check()
    (model / "model.safetensors").write_bytes(b"b")
    with pytest.raises(RecipeError, match=r"is another model than the locked run used.*reproduce\.allow=\[models\]"):
        prepare(recorded, []).check()
    prepare(recorded, ["reproduce.allow=[models]"]).check()
    (model / "model.safetensors").unlink()
    model.rmdir()
    with pytest.raises(RecipeError, match="the model is not here"):
        prepare(recorded, []).check()


def test_a_registered_model_needs_only_the_stages_that_made_it(desk: Desk) -> None:
    recorded = Recorded("registry:m/1", desk.plan("~evaluation", "~gates").lock, target="train")
    assert [stage.name for stage in prepare(recorded, []).plan.stages] == ["prepare", "init", "train"]


def test_a_lock_that_only_served_has_nothing_to_reproduce(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (desk.path / "recipes" / "served.yaml").write_text(
        "defaults:\n  - /topology: single\n  - /router: keyword\n  - override /hardware: cpu\n  - _self_\n"
        "name: served\ntopology: {experts: {general: {model: 'registry:m@champion'}}}\n"
    )
    from largeforge.compare.sides import of_recipe

    with pytest.raises(RecipeError, match="trained nothing"):
        prepare(of_recipe(["served"]), [])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("method=dpo", r"method = 'dpo': a locked recipe has its choices made.*method\.\w+=…"),
        ("method.learning_rat=1", r"unknown key.*Did you mean 'learning_rate'\?"),
        ("seed.x=1", "seed is no section"),
        ("~nothing", "is not there to be removed"),
        ("seed=1,2", "expected one plain value"),
        ("seed", r"expected key=value or ~key"),
        ("mode=fast", "must be one of run, plan"),
        ("reproduce.allow=[data]", r"must be one of datasets, models.*'datasets'"),
        ("reproduce.alow=datasets", "unknown key; there is: reproduce.allow"),
    ],
)
def test_wrong_words_are_one_clear_error(desk: Desk, word: str, message: str) -> None:
    desk.record()
    with pytest.raises(RecipeError, match=message):
        again(word)


def test_a_lock_of_another_version_says_what_it_cannot_take(desk: Desk) -> None:
    recipe = {**desk.plan().lock["recipe"], "from_the_future": 1}
    with pytest.raises(RecipeError, match="from_the_future = 1: unknown key"):
        prepare(changed(desk, recipe=recipe), [])
    prepare(changed(desk, recipe=recipe), ["~from_the_future"])


OLD = Path(__file__).parent / "locks" / "small_before_deploy_update.json"
"""As it was written when `deploy.update` was `deploy.rollout`; `deploy.tls` and `deploy.firewall` were yes or no."""


def test_a_lock_of_before_a_rename_is_planned_and_keeps_its_digest(desk: Desk) -> None:
    written = locks.read(OLD)
    assert {"rollout", "tls", "firewall"} <= written["recipe"]["deploy"].keys()
    found = again(target=str(OLD))
    assert [stage.kind for stage in found.plan.stages] == [stage.kind for stage in again_now(desk).plan.stages]
    assert found.recorded.digest == written["digest"] == digest_of(written)
    assert found.plan.lock["origin"]["reproduces"] == written["digest"]
    assert not found.refused
    assert found.plan.recipe.deploy.update.watch_s == written["recipe"]["deploy"]["rollout"]["watch_s"]
    assert (found.plan.recipe.deploy.tls.servers, found.plan.recipe.deploy.firewall) == ("off", "off")
    moved = [
        match.what
        for match in found.matches
        if match.what.startswith(("recipe.deploy.rollout", "recipe.deploy.tls.servers"))
    ]
    assert not moved, "a key that was renamed is no difference"


def test_an_old_lock_that_was_changed_is_refused_all_the_same(desk: Desk) -> None:
    path = desk.path / "lock.json"
    path.write_text(OLD.read_text().replace('"watch_s": 30.0', '"watch_s": 31.0'))
    with pytest.raises(RecipeError, match="was changed after it was written"):
        again(target=str(path))


def test_an_old_key_as_an_override_is_told_the_new_one(desk: Desk) -> None:
    with pytest.raises(RecipeError, match=r"deploy\.rollout = .*: unknown key; it is deploy\.update now"):
        again("deploy.rollout.watch_s=5", target=str(OLD))
    assert again("deploy.update.watch_s=5", target=str(OLD)).plan.recipe.deploy.update.watch_s == 5


def again_now(desk: Desk) -> Reproduction:
    desk.record()
    return again()
