"""Which servers of a deployment are rolled out step by step, and the rollout that begins or goes on with them. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from largeforge.deploy import present
from largeforge.deploy.rollouts import document as documents
from largeforge.deploy.rollouts.document import Change, Document, Group, Member
from largeforge.deploy.service import DIGEST_LENGTH
from largeforge.errors import DeployError, GateError
from largeforge.recipe import promises

if TYPE_CHECKING:
    from largeforge.deploy.desired import Wanted
    from largeforge.deploy.history import Record
    from largeforge.deploy.update import Replacement
    from largeforge.recipe.sections.rollouts import Rollout
    from largeforge.recipe.sections.slos import Slo

States = Mapping[str, Mapping[str, Any]]


def settings_of(rollout: Rollout, slo: Slo, expert: str) -> Rollout:
    """Return how an expert is rolled out, with the limits that follow from what is promised."""
    own = rollout.of(expert)
    return own.model_copy(update={"analysis": promises.analysis(own.analysis, slo)})


def divided(
    wanted: Wanted, replacements: Sequence[Replacement], found: States
) -> tuple[list[Replacement], list[Replacement]]:
    """Return the replacements that begin as canaries, and all others.

    Raises DeployError where a canary has no room beside what serves.
    """
    canaries, others = [], []
    for one in replacements:
        server = _server(wanted, one)
        is_gradual = server and wanted.rollout.of(server).strategy != "immediate"
        if not is_gradual or one.old is None or one.old.key == one.new.key or not _is_up(found, one.old):
            others.append(one)
            continue
        is_up = _is_canary(wanted, found, one) and _is_up(found, one.new)
        if one.mode != "blue_green" and not is_up:
            raise DeployError(_no_room(wanted, server, one))
        canaries.append(replace(one, mode="canary", is_up=is_up))
    return canaries, others


def promoted(canaries: Sequence[Replacement]) -> list[Replacement]:
    """Return the replacements that make canaries what serves; they have proved themselves and are up."""
    return [replace(one, mode="blue_green", is_return=True, is_up=True, probes=()) for one in canaries]


def check(wanted: Wanted, found: States) -> Document | None:
    """Return the rollout that this deployment goes on with, None where it begins one or needs none.

    Raises DeployError while another one is under way, and GateError where the same was sent back before.
    """
    known = documents.known({host: wanted.layout(host) for host in found}, found)
    target = wanted.record(who="")
    now = documents.underway(known)
    if now and now.target.state != target.state:
        raise DeployError(
            f"{wanted.deployment} has a rollout under way ({now.id}, of {now.target.recipe}); end it first with "
            f"`python -m largeforge rollout promote` or `abort`"
        )
    if now:
        return now
    if not wanted.rollout.again:
        _refuse_again(wanted, found, known)
    return None


def _refuse_again(wanted: Wanted, found: States, known: Sequence[Document]) -> None:
    """Raise GateError for a release that the last rollout which had it has sent back."""
    last = {
        (member.service, member.new): document
        for document in known
        if document.ended != "not_begun"
        for member in document.members
    }
    for one in present.replacements(wanted, found):
        server, refused = _server(wanted, one), last.get((one.new.service, one.new.key))
        is_gradual = server and wanted.rollout.of(server).strategy != "immediate"
        if is_gradual and refused and refused.ended == "rolled_back":
            raise GateError(
                f"{one.new.service} was sent back with this model by rollout {refused.id}: "
                f"{'; '.join(refused.reasons) or 'by command'}. To try it again: rollout.again=true"
            )


def begin(
    wanted: Wanted, canaries: Sequence[Replacement], record: Record, *, by: str, known: Sequence[Document] = ()
) -> Document:
    """Return a rollout of canaries that nobody asks yet; `known` are those before it."""
    groups: dict[str, list[Replacement]] = {}
    for one in canaries:
        groups.setdefault(_server(wanted, one), []).append(one)
    name = documents.name_after(known, time.time(), canaries[0].new.key[:DIGEST_LENGTH])
    return Document(name, by, record, tuple(_group(wanted, server, ones) for server, ones in sorted(groups.items())))


def _group(wanted: Wanted, server: str, canaries: Sequence[Replacement]) -> Group:
    first = canaries[0]
    assert first.old is not None
    changes = {
        expert: _change(first.old.answers.get(expert, {}), answer, wanted.aliases.get(expert, ""))
        for expert, answer in first.new.answers.items()
    }
    members = tuple(
        Member(one.new.host, one.new.service, one.old.key if one.old else "", one.new.key) for one in canaries
    )
    settings = settings_of(wanted.rollout, wanted.slo, server)
    return Group(server, tuple(first.new.answers), members, changes, settings)


def _change(old: Mapping[str, Any], new: Mapping[str, Any], alias: str) -> Change:
    return Change(
        str(old.get("model", "")), str(new["model"]), old_lock=str(old.get("lock", "")), lock=str(new.get("lock", "")),
        alias=alias,
    )  # fmt: skip


def _server(wanted: Wanted, one: Replacement) -> str:
    """Return the name of the server that a replacement is a replica of; empty for a gateway."""
    return next((place.base.name for place in wanted.placements if place.label == one.new.service), "")


def _is_up(found: States, release: Any) -> bool:
    return present.is_active(found[release.host], release)


def _is_canary(wanted: Wanted, found: States, one: Replacement) -> bool:
    known = present.canaries(wanted.layout(one.new.host), found[one.new.host])
    return known.get(one.new.service) == one.new.key


def _no_room(wanted: Wanted, server: str, one: Replacement) -> str:
    strategy = wanted.rollout.of(server).strategy
    place = f" on GPU {', '.join(map(str, one.new.gpus))}" if one.new.gpus else ""
    need = f" ({one.new.num_bytes / 2**30:.1f} GiB{place})" if one.new.num_bytes else place
    return (
        f"{one.new.host}: rollout.strategy={strategy} needs room for the new {one.new.service} beside the old "
        f"one{need}, and there is none. Free some, or choose rollout.experts.{server}.strategy=immediate; where "
        "the memory is not known but is there, deploy.update.strategy=blue_green"
    )
