"""Models of a hub, fetched by the hosts that serve them: whole commits, verified, continued after a break."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from largeforge.deploy import shell
from largeforge.recipe import hub

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.deploy.connection import Reach
    from largeforge.deploy.content import HubContent
    from largeforge.deploy.desired import Wanted

PROGRAM = "largeforge.registry.fetching"
TOKEN = "HF_TOKEN"
TOLD_EVERY_S = 15.0


def pull(model: HubContent, reach: Reach, wanted: Wanted, report: Callable[[str], None]) -> None:
    """Have a host fetch a commit into the folder of what comes in, and tell how far it is.

    Raises DeployError in the words of the host: the hub does not answer, or its files are not what it says.
    """
    folder = f"{reach.host.paths.root}/incoming/{model.key}"
    order = {
        "repo": model.repo, "commit": model.commit, "folder": folder, "endpoint": hub.endpoint(),
        "token": wanted.secrets.get(TOKEN, ""),
    }  # fmt: skip
    report(f"fetching {model.repo} at {model.commit[:8]} from the hub")
    argv = [wanted.pythons[reach.name].interpreter, "-m", PROGRAM]
    told = time.monotonic()
    for line in shell.lines(reach, argv, stdin=json.dumps(order)):
        said: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
        if said.get("total") and time.monotonic() - told > TOLD_EVERY_S:
            told = time.monotonic()
            report(f"{said['text']}: {said['done'] / 2**20:.0f} of {said['total'] / 2**20:.0f} MiB")
