"""Which experts can answer which kinds of requests: an expert writes answers, embeds, or scores.

An embedding is only comparable with others of the same model, so a request for one goes to the expert that it names,
or to the only one that can; no other takes its place but those that its `fallback` names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.errors import nearest
from largeforge.gateway.errors import ApiError, bad_request
from largeforge.gateway.kinds import DOING, TASKS
from largeforge.gateway.request import AUTO
from largeforge.gateway.routing import Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.gateway.kinds import Kind, Task
    from largeforge.gateway.request import Request


class Tasks:
    """The tasks of all experts, by their names."""

    def __init__(self, tasks: Mapping[str, Task]):
        self._tasks = tasks
        self._able = {kind: [name for name, task in tasks.items() if task in TASKS[kind]] for kind in TASKS}

    def route(self, request: Request) -> Route | None:
        """Return where a request goes that does not generate; None for one that does, which routers decide on.

        Raises ApiError when the expert that it names cannot, or none can, or it does not say which of several.
        """
        name, able = request.model, self._able[request.kind]
        if name in self._tasks and name not in able:
            rule = f"expert '{name}' cannot {DOING[request.kind]}"
            bad_request(f"model = '{name}': {rule}{_those(request.kind, able)}.", "model", "wrong_kind")
        if not able:
            bad_request(f"No expert of this gateway can {DOING[request.kind]}.", "model", "wrong_kind")
        if "generate" in TASKS[request.kind]:
            return None
        if name in able:
            return Route(name, "model", name)
        if name != AUTO:
            message = f"model = '{name}': there is no such expert{_those(request.kind, able, near=name)}."
            raise ApiError(404, message, param="model", code="model_not_found")
        if len(able) > 1:
            bad_request(
                f"Several experts can {DOING[request.kind]}; name one of them in 'model': {', '.join(able)}.",
                "model",
                "missing_required_parameter",
            )
        return Route(able[0], "task", able[0])


def _those(kind: Kind, able: list[str], *, near: str = "") -> str:
    if not able:
        return f", and no expert of this gateway can {DOING[kind]}"
    hint = nearest(near, able) if near else ""
    return f"; these can {DOING[kind]}: {', '.join(able)}" + (f" (did you mean '{hint}'?)" if hint else "")
