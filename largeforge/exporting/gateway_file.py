"""The file that an exported gateway is started with, and what its container needs beside."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from largeforge.exporting.system import GATEWAY_PORT, STATE
from largeforge.serving import templates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from largeforge.exporting.system import ModelServer, System


def gateway_file(
    found: System, urls: Callable[[ModelServer], Sequence[str]], *, num_gateways: int = 1
) -> dict[str, Any]:
    """Return the gateway's file; `urls` gives the addresses of a server's replicas.

    Several gateways each count only what they send themselves, so that they share a server's limit.
    """
    recipe = found.recipe
    assert recipe.router is not None and recipe.topology is not None
    limit = math.ceil(recipe.serving.max_num_seqs / num_gateways)
    batches = recipe.gateway.batches.model_copy(update={"folder": f"{STATE}/batches" if found.batches else ""})
    gateway = recipe.served_gateway.model_copy(update={"host": "0.0.0.0", "port": GATEWAY_PORT, "batches": batches})
    upstreams = {
        expert.name: [
            {
                "url": url, "served_model": expert.name, "model": expert.reference, "lock": expert.lock, "limit": limit,
                "chat_template": templates.sha256(one.chat_template or expert.chat_template),
            }
            for url in urls(one)
        ]
        for one in found.servers
        for expert in one.place.experts
    }  # fmt: skip
    return {
        "gateway": gateway.model_dump(mode="json"), "router": recipe.router.model_dump(mode="json"),
        "topology": recipe.topology.model_dump(mode="json"), "upstreams": upstreams,
    }  # fmt: skip


def gateway_text(file: Mapping[str, Any]) -> str:
    """Return the gateway's file as text."""
    return json.dumps(file, indent=2, ensure_ascii=False) + "\n"


def gateway_environment() -> dict[str, str]:
    """Return the variables of a gateway whose root is read-only."""
    return {"HOME": STATE, "XDG_CACHE_HOME": f"{STATE}/cache", "PYTHONDONTWRITEBYTECODE": "1"}
