"""`/docs`: Swagger UI from files on this machine; nothing is loaded from anywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route
from swagger_ui_bundle import swagger_ui_path

from largeforge.gateway import openapi

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

_FILES = frozenset(("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"))

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>LargeForge gateway</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

_START = """SwaggerUIBundle({
  url: "docs/openapi-3.0.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""

_POLICY = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
}


def routes() -> list[BaseRoute]:
    """Return the routes of the API document and its page."""
    document = openapi.document()
    newest, older = orjson.dumps(document), orjson.dumps(openapi.as_3_0(document))

    async def api(_: Request) -> Response:
        return Response(newest, media_type="application/json")

    async def older_api(_: Request) -> Response:
        return Response(older, media_type="application/json")

    return [
        Route("/openapi.json", api),
        Route("/docs", _page),
        Route("/docs/start.js", _start),
        Route("/docs/openapi-3.0.json", older_api),
        Route("/docs/{name}", _file),
    ]


async def _page(_: Request) -> Response:
    return HTMLResponse(_PAGE, headers=_POLICY)


async def _start(_: Request) -> Response:
    return Response(_START, media_type="text/javascript")


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _FILES:
        raise HTTPException(404)
    return FileResponse(swagger_ui_path / name)
