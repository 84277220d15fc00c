"""`/admin/…`: what operators see and set; `access.py` says who they are.

`/admin/state` is the mode, who is isolated and what is drained; `/admin/config` is the gateway file that is served.
Both are read with GET and changed by a JSON merge patch; `PUT /admin/config` takes a whole file, `POST /admin/reload`
reads the one that the gateway was started with again. `/admin/arms` has what was counted of canaries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from starlette.routing import Route

from largeforge import __version__
from largeforge.errors import listed, nearest
from largeforge.gateway import backend
from largeforge.gateway.admin.state import merged
from largeforge.gateway.arms import by_worker, summed
from largeforge.gateway.endpoint import Endpoint, answer
from largeforge.gateway.errors import ApiError, bad_request
from largeforge.gateway.request import read_body

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from largeforge.gateway.admin.access import Access
    from largeforge.gateway.admin.controls import Controls
    from largeforge.gateway.admin.reload import Reloading
    from largeforge.gateway.admin.state import State
    from largeforge.gateway.crew.whole import Whole
    from largeforge.gateway.live import Live

MOST_BODY_BYTES = 16 * 2**20
PATCH_ATTEMPTS = 10
"""How often a patch is tried while other workers change the same file."""


class AdminPages:
    """The endpoints of operators."""

    def __init__(self, live: Live, controls: Controls, reloading: Reloading, whole: Whole, access: Access):
        self._live, self._controls, self._reloading, self._whole = live, controls, reloading, whole
        self._access = access

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        endpoints = {
            "/admin/state": Endpoint(GET=self._state, PATCH=self._set),
            "/admin/config": Endpoint(GET=self._config, PATCH=self._change_config, PUT=self._put_config),
            "/admin/reload": Endpoint(POST=self._reload),
            "/admin/arms": Endpoint(GET=self._arms),
        }
        return [Route(path, endpoint, methods=endpoint.methods) for path, endpoint in endpoints.items()]

    async def _state(self, request: Request) -> Response:
        self._access.check(request.scope)
        return answer(await self._said())

    async def _set(self, request: Request) -> Response:
        await self._controls.patch(await self._body(request), self._check)
        return answer(await self._said())

    async def _config(self, request: Request) -> Response:
        self._access.check(request.scope)
        return self._file()

    async def _change_config(self, request: Request) -> Response:
        patch, expected = await self._body(request), _expected(request)
        for attempt in range(PATCH_ATTEMPTS):
            values = merged(self._live.now.file.model_dump(mode="json"), patch)
            try:
                await self._reloading.put(values, expected=expected or self._reloading.digest)
            except ApiError as error:  # who named no version wants the patch on the one that came meanwhile
                if error.code != "changed_meanwhile" or expected or attempt + 1 == PATCH_ATTEMPTS:
                    raise
            else:
                break
        return self._file()

    async def _put_config(self, request: Request) -> Response:
        await self._reloading.put(await self._body(request), expected=_expected(request))
        return self._file()

    async def _reload(self, request: Request) -> Response:
        self._access.check(request.scope)
        await self._reloading.reread()
        return self._file()

    async def _arms(self, request: Request) -> Response:
        self._access.check(request.scope)
        workers = await by_worker(self._whole)
        return answer(
            {
                "object": "arms",
                "data": summed(workers.values()),
                "workers": {str(number): counts for number, counts in workers.items()},
            }
        )

    async def _body(self, request: Request) -> Any:
        """Return what an operator sends as JSON; who is none is refused before anything is read."""
        self._access.check(request.scope)
        body = await read_body(request.scope, request.receive, MOST_BODY_BYTES)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("application/json", "application/merge-patch+json"):
            raise ApiError(415, "The body must be application/json.", code="unsupported_media_type")
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            bad_request(f"The body is not valid JSON: {error.msg}.", code="invalid_json")

    def _check(self, state: State) -> None:
        """Refuse what is not there: isolating a name with a typo would isolate nobody."""
        before, targets = self._controls.now, self._live.now.targets
        experts = list(self._live.now.file.topology.experts)
        for kind, given, known in (
            ("experts", state.experts.keys() - before.experts.keys(), experts),
            ("canaries", state.canaries.keys() - before.canaries.keys(), experts),
            ("shadows", state.shadows.keys() - before.shadows.keys(), experts),
            ("guarded", state.guarded.keys() - before.guarded.keys(), experts),
            ("rollouts", state.rollouts.keys() - before.rollouts.keys(), experts),
            ("drained", state.drained.keys() - before.drained.keys(), list(backend.backends(targets))),
        ):
            for name in sorted(given - set(known)):
                hint = f" Did you mean '{near}'?" if (near := nearest(name, known)) else ""
                bad_request(f"'{kind}': there is no '{name}'; there is: {listed(known)}.{hint}", kind)
        for name, reason in state.guarded.items():
            if state.canaries.get(name) or state.shadows.get(name):
                message = (
                    f"The gateway took the canary of '{name}' out: {reason}. "
                    f'It gets a share again when {{"guarded": {{"{name}": null}}}} is sent as well.'
                )
                raise ApiError(409, message, param="canaries", code="guarded")

    async def _said(self) -> dict[str, Any]:
        document = self._controls.document
        servers = backend.backends(self._live.now.targets)
        return {
            "object": "state",
            **document.state.model_dump(mode="json"),
            "in_force": document.state.in_force,
            "since": document.since,
            "in_flight": await self._whole.in_flight(),
            "outstanding": {url: server.load for url, server in servers.items()},
            "workers": self._live.now.file.gateway.workers,
            "config": self._reloading.digest,
            "version": __version__,
        }

    def _file(self) -> Response:
        response = answer(self._live.now.file.model_dump(mode="json"))
        response.headers["etag"] = f'"{self._reloading.digest}"'
        return response


def _expected(request: Request) -> str:
    """Return the digest that must be in force for a change, as `If-Match` has it; empty for any."""
    return request.headers.get("if-match", "").strip().removeprefix("W/").strip('"').removeprefix("*")
