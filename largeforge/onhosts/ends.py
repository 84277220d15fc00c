"""How a stage ended on its hosts, and why: of several that train together, which one was the cause."""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from largeforge.onhosts.following import Ending, Follower

HURRY_S = 30.0
"""How long a host may be out of reach once another one has said that the training has failed."""


@dataclass(frozen=True)
class Reason:
    """Why a stage failed."""

    text: str
    exit_code: int = 1
    reason: str = ""
    memory_gib: float = 0.0


def of_all(followers: Sequence[Follower]) -> dict[str, Ending | None]:
    """Follow the parts of a stage until all have ended, or the first one has ended well; None for those out of reach.

    Raises DeployError when the first host is out of reach for too long, and no other says that all is over.
    """
    first, *others = followers
    ends: dict[str, Ending | None] = {each.host.name: None for each in followers}

    def follow(each: Follower) -> None:
        try:
            ends[each.host.name] = end = each.run()
        except DeployError:
            return
        if not has_succeeded(end):
            _hurry(followers)

    threads = [threading.Thread(target=follow, args=[each], daemon=True) for each in others]
    for thread in threads:
        thread.start()
    try:
        ends[first.host.name] = end = first.run()
    except DeployError:
        if not any(end and end.last for end in ends.values()):
            raise
    else:
        if has_succeeded(end) and end.last.get("kind") == "result":
            return ends
    _hurry(followers)
    for thread in threads:
        thread.join(2 * HURRY_S)
    return ends


def has_succeeded(end: Ending | None) -> bool:
    """Whether a part ended well."""
    return end is not None and end.ended.get("code") == 0


def why(ends: Mapping[str, Ending | None]) -> Reason:
    """Return why a stage failed on its hosts, the one with its checkpoints first."""
    first = next(iter(ends))
    told = [end.last for end in ends.values() if end and end.last.get("kind") == "failed"]
    told.sort(key=lambda event: bool(event.get("lost")))  # one that only misses another knows less
    last = told[0] if told else {}
    host = str(last.get("host") or first)
    end, first_end = ends.get(host), ends[first]
    if first_end and first_end.ended.get("cancelled"):
        host, end, last = first, first_end, {}
    ended = end.ended if end else {}
    if last.get("lost"):
        own = end.last if end and not end.last.get("lost") else {}
        text = _of_lost(host, end, own) or str(last["error"])
    else:
        text = what_happened(host, ended, last)
    reason = str(last.get("reason") or ("out_of_memory" if ended.get("memory") else ""))
    return Reason(text, int(last.get("exit_code", 1)), reason, float(last.get("memory_gib", 0.0)))


def _of_lost(host: str, end: Ending | None, last: Mapping[str, Any]) -> str:
    """Return what is known of a host that the others lost; empty when they know as much."""
    others = "the other hosts ended with it"
    if end is None:
        return f"{host} was lost while it trained, and is still out of reach; {others}"
    is_known = end.ended.get("code") is None or end.ended.keys() & {"memory", "error"} or last.get("error")
    return f"{what_happened(host, end.ended, last)}; {others}" if is_known or end.ended.get("stopped") else ""


def what_happened(host: str, ended: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """Return for people how a stage ended on one host, by what the host wrote down and the stage said last."""
    if last.get("error") and not ended.get("memory"):
        return str(last["error"])
    if ended.get("gone"):
        return f"its job is not on {host} any more: somebody removed it"
    if ended.get("restarted"):
        return f"{host} was restarted while the stage ran there"
    if ended.get("memory"):
        return f"out of memory: the kernel of {host} killed its process"
    if ended.get("cancelled"):
        return f"it was ended on {host} (python -m largeforge cancel)"
    if ended.get("stopped"):
        return f"it was told to end on {host}, by systemctl or because the host was shut down"
    if ended.get("error"):
        return f"{host}: {ended['error']}"
    code = ended.get("code")
    if isinstance(code, int) and code < 0:
        return f"its process on {host} was killed by {signal.Signals(-code).name}"
    if code is None:
        status = f" ({ended['result']} {ended.get('status', '')})".rstrip() if ended.get("result") else ""
        return f"its unit on {host} was killed{status}"
    return f"its process on {host} ended with exit code {code} and no reason: its log says more"


def _hurry(followers: Sequence[Follower]) -> None:
    for each in followers:
        each.patience_s = min(each.patience_s, HURRY_S)
