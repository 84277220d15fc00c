"""Aliases move forward and back, gates stand in the way, and the audit trail tells all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from largeforge.errors import GateError, RegistryError
from largeforge.recipe import model_ref
from largeforge.recipe.lock import digest_of
from largeforge.registry import GateResult, Lineage, ModelRegistry, queue
from largeforge.registry.promotion import demote, promote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from largeforge.recipe.schema import Registry

PASSED = GateResult("exact_match", ">= 0.85", 0.9, True)
FAILED = GateResult("exact_match", ">= 0.85", 0.4, False)
LINEAGE = Lineage(recipe="quickstart", recipe_digest="d1", lock="l1", run_dir="runs/quickstart/x", gates=[PASSED])


class Shelf:
    """A registry with numbered models of one name."""

    def __init__(self, settings: Registry, make_model: Callable[..., Path]):
        self.registry, self._make = ModelRegistry(settings), make_model

    def add(self, seed: int, alias: str = "", lineage: Lineage = LINEAGE, **more: Any) -> None:
        self.registry.register(
            "m", self._make(seed), kind="model", lineage=lineage, metrics={}, alias=alias, why="made", **more
        )

    def promote(self, number: int, **more: Any) -> Any:
        return promote(
            self.registry, model_ref.parse(f"registry:m/{number}"), **{"alias": "champion", "why": "better", **more}
        )

    @property
    def aliases(self) -> dict[str, int]:
        return self.registry.list_models()[0].aliases

    @property
    def told(self) -> list[tuple[str, str, str, str]]:
        return [(each.action, each.alias, each.before, each.version) for each in self.registry.log("m")]


@pytest.fixture
def shelf(settings: Registry, make_model: Callable[..., Path]) -> Shelf:
    return Shelf(settings, make_model)


def test_there_and_back_again_is_told_in_order(shelf: Shelf) -> None:
    for seed in (1, 2, 3):
        shelf.add(seed, "champion" if seed == 1 else "")
    assert shelf.promote(2).before == 1
    assert shelf.promote(3).before == 2
    assert shelf.aliases == {"champion": 3, "previous": 2}
    assert demote(shelf.registry, "m", alias="champion", why="slower").version.version == 2
    assert shelf.aliases == {"champion": 2, "previous": 1}, "two steps back are two versions back, not there again"
    demote(shelf.registry, "m", alias="champion", why="slower too")
    assert shelf.aliases == {"champion": 1}
    with pytest.raises(RegistryError, match=r"no version that m@champion had before version 1"):
        demote(shelf.registry, "m", alias="champion", why="further")
    assert not shelf.promote(1).changed
    assert shelf.told == [
        ("register", "champion", "", "1"),
        ("register", "", "", "2"),
        ("register", "", "", "3"),
        ("promote", "champion", "1", "2"),
        ("promote", "champion", "2", "3"),
        ("demote", "champion", "3", "2"),
        ("demote", "champion", "2", "1"),
    ], "nothing is told of what changed nothing"
    entry = shelf.registry.log("m")[3]
    assert (entry.why, entry.gates, entry.run_dir, entry.lock, entry.state, entry.forced) == (
        "better", "1 of 1 passed", "runs/quickstart/x", "l1", "done", "",
    )  # fmt: skip
    assert "@" in entry.who
    assert [each.number for each in shelf.registry.log("m")] == [1, 2, 3, 4, 5, 6, 7]


def test_an_alias_of_another_name_keeps_its_own_previous(shelf: Shelf) -> None:
    shelf.add(1, "champion")
    shelf.add(2, "candidate")
    shelf.add(3, "candidate")
    assert shelf.aliases == {"champion": 1, "candidate": 3, "previous-candidate": 2}
    demote(shelf.registry, "m", alias="candidate", why="x")
    assert shelf.aliases == {"champion": 1, "candidate": 2}


def test_failed_gates_are_overruled_only_by_force_and_that_is_told(shelf: Shelf) -> None:
    shelf.add(1, "champion")
    shelf.add(2, lineage=replace(LINEAGE, gates=[PASSED, FAILED]))
    with pytest.raises(GateError, match=r"m/2 is not promoted: .*exact_match is 0\.4, must be >= 0\.85.*--force"):
        shelf.promote(2)
    assert shelf.aliases == {"champion": 1}
    shelf.promote(2, force=True, why="only the demo")
    assert shelf.aliases == {"champion": 2, "previous": 1}
    entry = shelf.registry.log("m")[-1]
    assert "exact_match is 0.4" in entry.forced
    assert entry.gates == "1 of 2 passed; not exact_match"


def test_a_version_never_held_against_the_gates_of_its_recipe_is_refused(shelf: Shelf) -> None:
    recipe = {"jobs": {"mapper": {"gates": {"exact_match": ">= 0.85"}}, "other": {}}}
    content: dict[str, Any] = {"recipe": recipe, "models": {}, "datasets": {}, "packages": {}, "hardware": {}}
    lock = {**content, "digest": digest_of(content), "origin": {}, "resolved": {}}
    judged = replace(LINEAGE, lock=lock["digest"], stage="mapper.train")
    shelf.add(1, lineage=replace(judged, gates=[]), lock=lock)
    shelf.add(2, lineage=judged, lock=lock)
    shelf.add(3, lineage=replace(judged, gates=[], stage="other.train"), lock=lock)
    with pytest.raises(GateError, match="gates that it was not held against: exact_match"):
        shelf.promote(1)
    shelf.promote(2)
    shelf.promote(3)
    assert shelf.aliases == {"champion": 3, "previous": 2}


def test_a_damaged_version_is_promoted_by_nobody(shelf: Shelf) -> None:
    shelf.add(1)
    found = shelf.registry.resolve(model_ref.parse("registry:m/1"))
    (found.path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(RegistryError, match=r"m/1 is damaged: .*model\.safetensors has 3 bytes instead of 2000"):
        shelf.promote(1, force=True)
    assert shelf.told == [("register", "", "", "1")]


@pytest.mark.parametrize(
    ("alias", "why", "message"),
    [("previous", "x", "kept by promote and demote"), ("v3", "x", "MLflow keeps"), ("a", "x" * 2001, "at most 2000")],
)
def test_what_cannot_be_an_alias_or_a_reason_is_refused(shelf: Shelf, alias: str, why: str, message: str) -> None:
    shelf.add(1)
    with pytest.raises(RegistryError, match=message):
        shelf.promote(1, alias=alias, why=why)


def test_what_a_version_is_cannot_be_changed_and_what_people_say_of_it_can(shelf: Shelf) -> None:
    shelf.add(1, "champion", tags={"team": "support"}, notes="first")
    version = shelf.registry.find(model_ref.parse("registry:m"))
    for key in ("largeforge.metrics", "largeforge.lineage", "mlflow.source"):
        with pytest.raises(RegistryError, match="written once"):
            shelf.registry.annotate(version, tags={key: "{}"})
    changed = shelf.registry.annotate(version, tags={"team": "", "stage": "canary"}, notes="second")
    assert (changed.tags, changed.notes) == ({"stage": "canary"}, "second")
    with shelf.registry.database.writing() as client:  # as somebody might in MLflow's pages
        client.set_model_version_tag("m", "1", "largeforge.metrics", '{"exact_match": 1.0}')
    assert shelf.registry.list_models()[0].aliases == {"champion": 1}
    for use in (lambda: shelf.registry.resolve(model_ref.parse("registry:m")), lambda: shelf.promote(1, alias="x")):
        with pytest.raises(RegistryError, match="lineage, metrics or lock in the database were changed"):
            use()
    with shelf.registry.database.writing() as client:
        client.delete_model_version_tag("m", "1", "largeforge.lineage")
    assert shelf.registry.list_models()[0].aliases == {"champion": 1}, "one spoilt version hides no other"
    with pytest.raises(RegistryError, match="were changed"):
        shelf.registry.resolve(model_ref.parse("registry:m"))


def test_a_change_that_was_killed_stays_in_the_trail_as_broken_off(shelf: Shelf, settings: Registry) -> None:
    shelf.add(1, "champion")
    shelf.add(2)
    script = f"""
import os
from largeforge.recipe import model_ref
from largeforge.recipe.schema import Registry
from largeforge.registry import ModelRegistry, promotion
registry = ModelRegistry(Registry(uri={settings.uri!r}, artifacts={settings.artifacts!r}))
promotion.aliases.previous_of = lambda alias: os._exit(9)
promotion.promote(registry, model_ref.parse("registry:m/2"), alias="champion", why="better")
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.returncode == 9, ended.stderr
    assert shelf.aliases == {"champion": 1}
    shelf.promote(2)
    assert [(each.action, each.state) for each in shelf.registry.log("m")][2:] == [
        ("promote", "broken off"),
        ("promote", "done"),
    ]
    assert shelf.aliases == {"champion": 2, "previous": 1}
    demote(shelf.registry, "m", alias="champion", why="x")
    assert shelf.aliases == {"champion": 1}


def test_a_process_is_known_to_be_dead_only_where_it_can_be_seen() -> None:
    mine = queue.here()
    assert not queue.is_dead(mine)
    where, pid, started = mine.rsplit(":", 2)
    assert int(pid) == os.getpid()
    assert queue.is_dead(f"{where}:{pid}:{int(started) + 1}"), "another process had its id before"
    assert not queue.is_dead(f"elsewhere:{pid}:{int(started) + 1}")
    assert not queue.is_dead("")
