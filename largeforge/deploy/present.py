"""What of a deployment is on hosts now, and what has to be replaced for what is wanted. Pure.

`found` is by host the `state` that `remote/look.py` tells.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from largeforge.deploy import desired, room, steps, tls
from largeforge.deploy.desired import GATEWAY
from largeforge.deploy.service import Layout, Service, unit_text
from largeforge.deploy.update import Release, Replacement, gateway_file

if TYPE_CHECKING:
    from largeforge.deploy.desired import Wanted

States = Mapping[str, Mapping[str, Any]]


def live(wanted: Wanted, found: States) -> list[Release]:
    """Return the releases that are current and up."""
    return [
        release
        for host, state in found.items()
        for release in current(wanted.layout(host), host, state)
        if is_active(state, release)
    ]


def current(layout: Layout, host: str, state: Mapping[str, Any]) -> Iterator[Release]:
    """Yield the current release of each service on a host, whether it is up or not."""
    top = f"{layout.home}/services/"
    for path, entry in sorted(state["paths"].items()):
        if entry["kind"] == "link" and path.startswith(top) and path.endswith("/current"):
            service, key = path[len(top) : -len("/current")], entry["target"].rpartition("/")[2]
            release = of(layout, host, service, key, state)
            if release is not None:
                yield release


def canaries(layout: Layout, state: Mapping[str, Any]) -> dict[str, str]:
    """Return the release of each service on a host that is its canary."""
    top = f"{layout.home}/services/"
    return {
        path[len(top) : -len("/canary")]: entry["target"].rpartition("/")[2]
        for path, entry in sorted(state["paths"].items())
        if entry["kind"] == "link" and path.startswith(top) and path.endswith("/canary")
    }


def of(layout: Layout, host: str, service: str, key: str, state: Mapping[str, Any]) -> Release | None:
    """Return a release that is on a host; None where it is not whole."""
    folder = layout.release(service, key)
    try:
        said = json.loads(state["paths"][f"{folder}/service.json"]["text"])
        port = int(state["paths"][f"{folder}/port"]["text"])
        return Release(
            host, service, key, layout.unit(service, key), port, kind=said["kind"],
            address=said["place"].get("address", ""), answers=said["answers"], num_bytes=said["bytes"],
            gpus=tuple(said["gpus"]), ca=said["place"].get("ca", ""),
        )  # fmt: skip
    except (LookupError, ValueError, TypeError):
        return None


def is_active(state: Mapping[str, Any], release: Release) -> bool:
    """Tell whether the unit of a release is up."""
    return bool(state["units"].get(release.unit, {}).get("ActiveState") == "active")


def running(layout: Layout, host: str, state: Mapping[str, Any]) -> list[Release]:
    """Return the releases on a host that have memory there: those that are up, or on their way up or down."""
    states = {unit: told.get("ActiveState", "inactive") for unit, told in state["units"].items()}
    down = ("inactive", "failed")
    return [one for one in all_of(layout, host, state) if states.get(one.unit, "inactive") not in down]


def replacements(wanted: Wanted, found: States) -> list[Replacement]:
    """Return what has to be replaced or started on hosts that were looked at, model servers first."""
    places = {place.label: place for place in wanted.placements}
    listed, vacated = list[Replacement](), dict[str, list[Release]]()
    gone = removed(wanted, found)
    for host, state in found.items():
        layout, now = wanted.layout(host), {}
        for release in current(layout, host, state):
            now[release.service] = release
        ports, pairs = desired.ports(wanted, host, state), list[room.Pair]()
        for name, service in wanted.services[host].items():
            old = now.get(name)
            new = _release(layout, host, name, service, ports[name])
            if (
                old is not None
                and old.key == new.key
                and is_active(state, old)
                and not _drifted(layout, service, ports[name], state)
            ):
                continue
            pairs.append((new, old))
        up, strategy = running(layout, host, state), wanted.deploy.update.strategy
        for (new, old), mode in zip(pairs, room.modes(pairs, state, up, strategy=strategy), strict=True):
            probes = desired.probes(wanted, places[new.service]) if new.service in places else []
            listed.append(Replacement(new, old, mode, probes))
        vacated[host] = room.vacated(pairs, state, up, _of_others(gone, host, wanted.services[host]))
    listed.sort(key=lambda one: (one.new.service == GATEWAY, one.new.service, one.new.host))
    return with_vacated(listed, vacated)


def _of_others(gone: Sequence[Release], host: str, services: Collection[str]) -> list[Release]:
    """Return what goes on a host of services that it is to have no more."""
    return [one for one in gone if one.host == host and one.service not in services]


def removed(wanted: Wanted, found: States) -> list[Release]:
    """Return releases that are up, or current, and wanted no more: of services that the recipe has no more, and those
    that a deployment before has left on standby or unfinished."""
    listed = []
    for host, state in found.items():
        layout = wanted.layout(host)
        now = {release.service: release.key for release in current(layout, host, state)}
        for release in all_of(layout, host, state):
            is_leftover = now.get(release.service) != release.key and is_active(state, release)
            is_gone = release.service not in wanted.services[host] and (
                is_active(state, release) or now.get(release.service) == release.key
            )
            wanted_key = wanted.services[host][release.service].key if release.service in wanted.services[host] else ""
            if is_gone or (is_leftover and release.key != wanted_key):
                listed.append(release)
    return listed


def all_of(layout: Layout, host: str, state: Mapping[str, Any]) -> Iterator[Release]:
    """Yield every whole release on a host."""
    top = f"{layout.home}/services/"
    for path in sorted(state["paths"]):
        parts = path[len(top) :].split("/") if path.startswith(top) else []
        if len(parts) == 4 and parts[1] == "releases" and parts[3] == "service.json":
            release = of(layout, host, parts[0], parts[2], state)
            if release is not None:
                yield release


def outdated(wanted: Wanted, host: str, state: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return service and key of releases beyond those that are kept: the wanted, the current, and the newest others."""
    layout = wanted.layout(host)
    top = f"{layout.home}/services/"
    now = {(release.service, release.key) for release in current(layout, host, state)}
    keep = now | {(name, service.key) for name, service in wanted.services[host].items()}
    ages: dict[str, list[tuple[float, str]]] = {}
    for path, entry in state["paths"].items():
        parts = path[len(top) :].split("/") if path.startswith(top) else []
        if (
            len(parts) == 4
            and parts[1] == "releases"
            and parts[3] == "service.json"
            and (parts[0], parts[2]) not in keep
        ):
            ages.setdefault(parts[0], []).append((entry["changed"], parts[2]))
    most = wanted.deploy.update.keep_releases
    listed = []
    for name, found in sorted(ages.items()):
        spare = max(0, most - sum(service == name for service, _ in keep))
        listed += [(name, key) for _, key in sorted(found, reverse=True)[spare:]]
    return listed


def kept_ports(wanted: Wanted, host: str, state: Mapping[str, Any]) -> list[int]:
    """Return the ports of model servers' releases that stay on a host."""
    going = set(outdated(wanted, host, state))
    releases = all_of(wanted.layout(host), host, state)
    return [one.port for one in releases if one.kind == "vllm" and (one.service, one.key) not in going]


def gateway_sections(wanted: Wanted, found: States) -> dict[str, Any]:
    """Return the gateway's file that is in force on the first gateway that has one, empty where none has."""
    for host in wanted.gateways:
        layout = wanted.layout(host)
        entry = found.get(host, {}).get("paths", {}).get(layout.gateway_file, {})
        if entry.get("text"):
            sections: dict[str, Any] = json.loads(tls.unlocated(entry["text"], layout))
            return sections
    return {}


def is_told(wanted: Wanted, found: States, releases: list[Release]) -> bool:
    """Tell whether every gateway has the file that it should have."""
    file = json.dumps(gateway_file(wanted.sections, [one for one in releases if one.service != GATEWAY]))
    for host in wanted.gateways:
        path = wanted.layout(host).gateway_file
        text = found[host]["paths"].get(path, {}).get("text", "")
        if not text or json.loads(text) != json.loads(tls.located(file, wanted.layout(host))):
            return False
    return True


def with_vacated(listed: Sequence[Replacement], vacated: Mapping[str, Sequence[Release]]) -> list[Replacement]:
    """Return replacements, in the order in which they are carried out, of which those that have no room yet come after
    releases have stopped; `vacated` are these by host."""
    left, found = dict(vacated), list[Replacement]()
    for one in listed:
        places = {gpu for release in vacated.get(one.new.host, ()) for gpu in release.gpus or (room.HOST,)}
        if one.old is None and one.mode == "blue_green" and places & set(one.new.gpus or (room.HOST,)):
            one = replace(one, mode="fixed")
        if one.mode == "fixed":
            one = replace(one, vacates=tuple(left.pop(one.new.host, ())))
        found.append(one)
    return found


def _release(layout: Layout, host: str, name: str, service: Service, port: int) -> Release:
    return Release(
        host, name, service.key, layout.unit(name, service.key), port, kind=service.kind,
        address=service.place.get("address", ""), answers=service.answers, num_bytes=service.bytes,
        gpus=service.gpus, ca=service.place.get("ca", ""),
    )  # fmt: skip


def _drifted(layout: Layout, service: Service, port: int, state: Mapping[str, Any]) -> bool:
    """Tell whether files of a release, or its unit, are not what was written."""
    unit = steps.File(f"/etc/systemd/system/{layout.unit(service.name, service.key)}", unit_text(service, layout))
    return any(step.differs(state) for step in (unit, *desired.release_files(layout, service, port)))
