"""Which hosts can run a stage, and which of them is asked first. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from largeforge.onhosts.task import Task
    from largeforge.recipe.sections.hosts import Host

GIB = 2**30
MEMORY_SHARE = 0.9
"""Share of the planned memory that a host must have: 8 GiB of RAM are shown as 7.7."""


def unfit(task: Task, host: Host, look: Mapping[str, Any], *, bytes_to_bring: int = 0) -> str:
    """Return why a host cannot run a stage, whoever else is there; empty when it can."""
    if not look["init"]:
        return "systemd does not run there: trainings are units of it"
    if not look["root"]:
        return f"{look['user']} does not become root there: allow it sudo, or connect as root (user: root)"
    if not look["rsync"]:
        return "rsync is not there: install it, inputs and models are brought with it"
    if task.gpus:
        found = [gpu for gpu in look["gpus"] if not task.gpu_names or gpu["name"] in task.gpu_names]
        usable = len(found) if host.gpus == "auto" else min(len(found), host.gpus)
        if usable < task.gpus:
            wanted = f"{task.gpus} × {task.gpu_names[0] if task.gpu_names else 'GPU'}"
            has = f", and has {', '.join(gpu['name'] for gpu in look['gpus']) or 'none'}"
            return f"it has {usable} GPU{'' if usable == 1 else 's'} for it{has}; {wanted} are planned with"
    elif look["memory_bytes"] < MEMORY_SHARE * task.memory_gib * GIB:
        return f"it has {look['memory_bytes'] / GIB:.1f} GiB of memory, and {task.memory_gib:g} are planned with"
    if look["free_bytes"] < bytes_to_bring:
        return (
            f"{look['free_bytes'] / GIB:.1f} GiB are free on its disk, and {bytes_to_bring / GIB:.1f} are to be brought"
        )
    return ""


def ordered(hosts: Sequence[str], before: str) -> list[str]:
    """Return the hosts in the order in which they are preferred: the one with the stage's checkpoints first."""
    return sorted(hosts, key=lambda name: (name != before, hosts.index(name)))


def chosen(hosts: Sequence[str], standings: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the first host with a turn once all have answered; empty while there is none."""
    if any(name not in standings for name in hosts):
        return ""
    return next((name for name in hosts if standings[name]["kind"] == "turn"), "")


def waiting_text(standings: Mapping[str, Mapping[str, Any]]) -> str:
    """Return for people where in line a stage is, and for whom it waits."""
    parts = []
    for name, said in standings.items():
        if said["kind"] != "waiting":
            continue
        held = ", ".join(_person(one) for one in said["holders"])
        ahead = ", ".join(_person(one) for one in said["ahead"])
        before = f"; before us {ahead}" if ahead else ""
        parts.append(f"{name}: place {said['position']} in line, {held or 'nobody'} computes there{before}")
    return "waiting for a host: " + "; ".join(parts)


def _person(one: Mapping[str, Any]) -> str:
    return f"{one['who']} ({one['what']})" if one["what"] else str(one["who"])
