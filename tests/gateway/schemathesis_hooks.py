"""What the OpenAPI document cannot say: which of a topology's experts can answer which kind of requests."""

from __future__ import annotations

from typing import Any

import schemathesis

ABLE = {
    "/v1/chat/completions": "general",
    "/v1/completions": "general",
    "/v1/embeddings": "vectors",
    "/v1/rerank": "vectors",
    "/v1/score": "vectors",
}


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Leave out requests that name an expert of another kind, as `/v1/models` lists them: they are refused."""
    model = case.body.get("model") if isinstance(case.body, dict) else None
    return model not in ("general", "vectors") or ABLE.get(case.operation.path, model) == model
