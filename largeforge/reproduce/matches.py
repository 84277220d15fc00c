"""What a reproduction can match of a lock, and what not: one line each, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from largeforge import identity
from largeforge.compare.differences import data_of, flatten, shown
from largeforge.recipe import model_ref
from largeforge.reproduce.overrides import ALLOW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.plan import Plan

Verdict = Literal["exact", "differs", "unknown"]


@dataclass(frozen=True)
class Match:
    """One thing of the lock beside what there is here."""

    what: str
    locked: str
    here: str
    verdict: Verdict
    note: str = ""
    rule: str = ""
    """Why it stops the reproduction, and how to go on; empty when it does not."""

    @property
    def blocks(self) -> bool:
        """Whether the reproduction must not go on."""
        return bool(self.rule)


def matches(lock: dict[str, Any], plan: Plan, *, allow: frozenset[str]) -> list[Match]:
    """Compare a lock with the plan that would reproduce it."""
    return [
        *_recipe(lock, plan.lock),
        *_datasets(lock, plan.lock, allow),
        *_models(lock, plan, allow),
        *_packs(lock, plan.lock),
        *_software(lock, plan.lock),
        *_hardware(lock, plan.lock),
        *_git(lock, plan.lock),
    ]


def used(reference: str, lock: dict[str, Any], job: str = "") -> dict[str, str]:
    """Return what a lock knows of the model that a reference meant: `reference` or `revision`, and hashes."""
    resolved = lock.get("resolved") or {}
    planned = lock.get("models", {}).get(reference) or (resolved.get("models") or {}).get(reference) or {}
    in_stage = (resolved.get("stages") or {}).get(f"{job}.train" if job else "train") or {}
    version = {"reference": in_stage["model"]} if "model" in in_stage else {}
    return {key: text for key, text in {**planned, **version, **in_stage}.items() if isinstance(text, str)}


def _recipe(lock: dict[str, Any], here: dict[str, Any]) -> Iterator[Match]:
    before, now = flatten(lock["recipe"]), flatten(here["recipe"])
    changed = [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]
    for key in changed:
        is_pinned = _is_pinned(key, before.get(key), now.get(key), lock)
        verdict: Verdict = "exact" if is_pinned else "differs"
        note = "pinned to what it meant then" if is_pinned else ""
        yield Match(f"recipe.{key}", shown(before.get(key)), shown(now.get(key)), verdict, note)
    if not changed:
        yield Match("recipe", lock["recipe"]["name"], here["recipe"]["name"], "exact")


def _is_pinned(key: str, before: Any, now: Any, lock: dict[str, Any]) -> bool:
    """Tell whether a key only says what it meant for the locked run."""
    *path, last = key.split(".")
    if path == ["hardware"]:
        return bool(lock["hardware"].get(last) == now)
    if last != "ref" or not path or path[-1] != "model" or not isinstance(before, str):
        return False
    known = used(before, lock, path[1] if path[0] == "jobs" else "")
    return now in (known.get("reference"), f"{before.partition('@')[0]}@{known.get('revision')}")


def _datasets(lock: dict[str, Any], here: dict[str, Any], allow: frozenset[str]) -> Iterator[Match]:
    before, now = data_of(lock), data_of(here)
    for key, sha256 in before.items():
        found = now.get(key, "missing")
        if found == sha256 != "missing":
            yield Match(key, sha256[:12], found[:12], "exact")
        elif found == "missing":
            rule = f"the data is not here. Copy it to this place, or say where it is: {key}=PATH."
            yield Match(key, sha256[:12], _at(here["recipe"], key), "differs", "missing", rule=rule)
        else:
            rule = (
                f"holds other data than the locked run had (sha256 {found[:12]} instead of {sha256[:12]}). Give "
                f"the same data with {key}=PATH, or accept another result with {ALLOW}=[datasets]."
            )
            accepted = "" if "datasets" not in allow else "accepted"
            yield Match(key, sha256[:12], found[:12], "differs", accepted, "" if accepted else rule)


def _models(lock: dict[str, Any], plan: Plan, allow: frozenset[str]) -> Iterator[Match]:
    jobs = plan.recipe.training_jobs
    locked_jobs = lock["recipe"].get("jobs") or {"main": lock["recipe"]}
    for name, job in jobs.items():
        if name not in locked_jobs or not any(stage.job == name for stage in plan.stages):
            continue
        text = locked_jobs[name]["model"]["ref"]
        ref = model_ref.parse(job.model.ref)
        if ref.scheme in ("tiny", "job"):
            continue
        before = used(text, lock, "" if name == "main" else name)
        now = identity.of_model(ref, plan.recipe.registry)
        yield _model(f"model {job.model.ref}", ref, before, now, allow)


def _model(
    what: str, ref: model_ref.ModelRef, before: dict[str, str], now: dict[str, str], allow: frozenset[str]
) -> Match:
    """Compare by the strongest identity that both sides have."""
    for key in ("sha256", "revision", "reference"):
        if before.get(key) and now.get(key):
            if before[key] == now[key]:
                return Match(what, before[key][:20], now[key][:20], "exact")
            accepted = "accepted" if "models" in allow else ""
            rule = f"is another model than the locked run used ({key} {now[key][:20]} instead of {before[key][:20]}). "
            rule += f"Bring that one back, or accept another result with {ALLOW}=[models]."
            return Match(what, before[key][:20], now[key][:20], "differs", accepted, "" if accepted else rule)
    text = next((before[key][:20] for key in ("revision", "sha256", "reference") if before.get(key)), "")
    if now or ref.scheme == "hub" or (ref.scheme == "registry" and "://" in what):
        note = "will be downloaded" if ref.scheme == "hub" and not now else "the lock does not say which one it was"
        return Match(what, text, next(iter(now.values()), "")[:20], "unknown", note)
    rule = "the model is not here. Bring it, or name another place with model.ref=…."
    if ref.scheme == "registry":
        return Match(what, text, "", "unknown", "not in a local registry; asked when it is loaded")
    return Match(what, text, "", "differs", "missing", rule)


def _packs(lock: dict[str, Any], here: dict[str, Any]) -> Iterator[Match]:
    before, now = _packs_of(lock), _packs_of(here)
    for name, commit in before.items():
        verdict: Verdict = "exact" if now.get(name) == commit else "unknown"
        yield Match(f"pack {name}", commit[:12], now.get(name, "")[:12], verdict, "the recipe is the locked one")


def _packs_of(lock: dict[str, Any]) -> dict[str, str]:
    found = lock.get("origin", {}).get("packs") or {}
    return {name: str(pack.get("commit", "")) for name, pack in found.items()}


def _software(lock: dict[str, Any], here: dict[str, Any]) -> Iterator[Match]:
    for key in ("largeforge", "python", "platform"):
        yield _plain(key, lock.get(key), here.get(key))
    before, now = lock["packages"], here["packages"]
    differing = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    for name in differing:
        yield Match(f"package {name}", before.get(name, "not installed"), now.get(name, "not installed"), "differs")
    if not differing:
        yield Match("packages", f"{len(before)} versions", f"{len(now)} versions", "exact")


def _hardware(lock: dict[str, Any], here: dict[str, Any]) -> Iterator[Match]:
    for key, before in lock["hardware"].items():
        if before not in ("", 0) or here["hardware"].get(key) not in ("", 0):
            yield _plain(f"hardware.{key}", before, here["hardware"].get(key))
    for key in ("processor", "driver"):
        before, now = lock.get("origin", {}).get(key), here["origin"].get(key)
        if before or now:
            yield _plain(key, before, now)


def _git(lock: dict[str, Any], here: dict[str, Any]) -> Iterator[Match]:
    before, now = lock.get("origin", {}).get("git") or {}, here["origin"].get("git") or {}
    if not before:
        return
    note = "had uncommitted changes; the lock has the recipe itself" if before.get("dirty") else ""
    match = _plain("git commit", before.get("commit"), now.get("commit"))
    verdict = "unknown" if before.get("dirty") or not now else match.verdict
    yield Match(match.what, match.locked[:12], match.here[:12], verdict, note or "the recipe is the locked one")


def _plain(what: str, before: Any, now: Any) -> Match:
    if before is None or now is None:
        return Match(what, shown(before), shown(now), "unknown")
    return Match(what, shown(before), shown(now), "exact" if before == now else "differs")


def _at(recipe: dict[str, Any], key: str) -> str:
    node: Any = recipe
    for part in key.split("."):
        node = node.get(part, {}) if isinstance(node, dict) else {}
    return str(node or "")
