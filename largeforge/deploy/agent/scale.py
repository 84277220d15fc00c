"""Tell what runs of a deployment on this host, and start and stop its model servers: `scale.py ORDER`, a JSON object;
prints one as answer.

`home` is the deployment's folder, `deployment` its name, `gateway` what `gateway.py` takes to ask the gateway of this
host, null where it has none. `do`:

look    returns the newest record, the current release of each model server with what systemd and the server say of it,
        `gpu_use` by GPU, and of the gateway who is drained and those of its metrics whose names are in `metrics`
act     drains and undrains servers at the gateway (`drained`: address to reason, null to undrain), then orders systemd
        to start and to stop units (`start`, `stop`) without waiting for it
warm    asks a server of this host (`service`) each of `questions`, as a rollout does
"""

from __future__ import annotations

import glob
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor

from ask import ask
from gateway import call, set_drained
from gpus import asked, number
from metrics import page
from switch import systemctl

CACHE_USE = re.compile(r"^vllm:kv_cache_usage_perc(?:{[^}]*})? ([0-9.eE+-]+)", re.MULTILINE)
PROPERTIES = ("Id", "ActiveState", "NRestarts", "InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
MOST_AT_ONCE = 8


def main(order):
    """Do it and return what is to be told."""
    if order["do"] == "act":
        return act(order)
    if order["do"] == "warm":
        return warm(order)
    records = sorted(os.path.basename(path) for path in glob.glob(os.path.join(order["home"], "history", "*.json")))
    return {
        "record": records[-1][: -len(".json")] if records else "",
        "servers": servers(order),
        "canaries": len(glob.glob(os.path.join(order["home"], "services", "*", "canary"))),
        "gpu_use": gpu_use() if order.get("gpus") else {},
        "gateway": of_gateway(order) if order.get("gateway") else None,
    }


def act(order):
    """Tell the gateway whom to ask, and systemd what is to run."""
    if order.get("drained"):
        set_drained(order["gateway"], order["drained"])
    for unit in order.get("start", ()):
        systemctl("reset-failed", unit)
        checked("start", unit)
    for unit in order.get("stop", ()):
        checked("stop", unit)
    return {}


def checked(action, unit):
    """Order systemd to start or stop a unit; raises OSError when it refuses."""
    code, said = systemctl("--no-block", action, unit)
    if code:
        raise OSError("systemd does not %s %s: %s" % (action, unit, said))


def warm(order):
    """Ask a server real questions; return what is wrong with its answers, empty where nothing is."""
    place = known(order)[order["service"]]["place"]
    for question in order["questions"]:
        status, body = ask(place, "POST", question["path"], question["body"], timeout_s=question["timeout_s"])
        if status != 200:
            return {"wrong": "it does not answer %s: %s %s" % (question["path"], status or "", body)}
    return {"wrong": ""}


def servers(order):
    """Return the current release of each model server of this host."""
    found = known(order)
    units = states([one["unit"] for one in found.values()])
    with ThreadPoolExecutor(max_workers=MOST_AT_ONCE) as pool:
        active = [name for name, one in found.items() if units.get(one["unit"], {}).get("ActiveState") == "active"]
        pages = dict(pool.map(lambda name: (name, page(found[name]["place"])), active))
    return {name: told(one, units.get(one["unit"], {}), pages.get(name) or "") for name, one in found.items()}


def told(one, unit, text):
    """Return what is told of a server."""
    began, ready = (int(unit.get(name) or 0) for name in PROPERTIES[3:])
    uses = [float(value) for value in CACHE_USE.findall(text)]
    return {
        **{key: value for key, value in one.items() if key != "place"},
        "state": unit.get("ActiveState", "inactive"),
        "restarts": int(unit.get("NRestarts") or 0),
        "started_s": (ready - began) / 1e6 if ready > began > 0 else None,
        "cache_use": max(uses) if uses else None,
    }


def known(order):
    """Return the current release of each model server by its service's name; one that is being replaced is left out."""
    found = {}
    for path in sorted(glob.glob(os.path.join(order["home"], "services", "*", "current", "service.json"))):
        folder = os.path.dirname(path)
        try:
            with open(path, encoding="utf-8") as stream:
                service = json.load(stream)
            with open(os.path.join(folder, "port"), encoding="utf-8") as stream:
                port = int(stream.read())
            key = os.path.basename(os.readlink(folder))
        except (OSError, ValueError):
            continue
        if service["kind"] != "vllm":
            continue
        place, name = service["place"], service["service"]
        found[name] = {
            "unit": "largeforge-%s-%s-%s.service" % (order["deployment"], name, key),
            "url": "%s://%s:%d" % ("https" if place.get("ca") else "http", place.get("address", ""), port),
            "experts": sorted(service["answers"]),
            "gpus": service["gpus"],
            "place": {**place, "port": port},
        }
    return found


def states(units):
    """Return what systemd says of units, by name."""
    if not units:
        return {}
    _, text = systemctl("show", "--property=%s" % ",".join(PROPERTIES), *units)
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


def gpu_use():
    """Return the share of time in which each GPU works, by its number."""
    found = {}
    for row in asked():
        try:
            found[row[0]] = number(row[2]) / 100
        except ValueError:
            continue
    return found


def of_gateway(order):
    """Return what the gateway says, or why it says nothing."""
    try:
        state = call(order["gateway"], "GET", "/admin/state")
    except OSError as error:
        return {"error": str(error)}
    text = page(place_of(order["gateway"])) or ""
    wanted = tuple(order["metrics"])
    lines = [line for line in text.splitlines() if line.startswith(wanted)]
    return {"drained": state["drained"], "outstanding": state["outstanding"], "metrics": "\n".join(lines)}


def place_of(gateway):
    """Return where the gateway is, from its address."""
    host, _, port = gateway["url"].partition("://")[2].rpartition(":")
    return {"host": host.strip("[]"), "port": int(port), **gateway.get("tls", {})}


if __name__ == "__main__":
    try:
        print(json.dumps(main(json.loads(sys.argv[1]))))
    except OSError as error:
        print(json.dumps({"error": str(error)}))
        sys.exit(1)
