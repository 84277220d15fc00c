"""Operate a running gateway: modes, isolation, draining, another topology; without a word, show what is in force.

  python -m largeforge gateway
  python -m largeforge gateway mode maintenance --reason "new disks" --wait     refuse new requests, finish old ones
  python -m largeforge gateway mode high_load          leave out shadows, hedges and batches
  python -m largeforge gateway mode degraded           ask no router: what names no expert goes to the fallback expert
  python -m largeforge gateway mode normal
  python -m largeforge gateway isolate expert support --reason "answers nonsense"
  python -m largeforge gateway release expert support
  python -m largeforge gateway isolate tenant acme
  python -m largeforge gateway drain http://127.0.0.1:40123 --wait              no new requests for one server
  python -m largeforge gateway undrain http://127.0.0.1:40123
  python -m largeforge gateway reload                                           its file, again
  python -m largeforge gateway reload +recipe=serve_quickstart topology.flags.new=true

A gateway of the same user on this machine is found by its port. Another one asks for the LARGEFORGE_ADMIN_TOKEN that it
was started with.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from largeforge.client import Operator

URL_VARIABLE = "LARGEFORGE_GATEWAY_URL"
DEFAULT_URL = "http://127.0.0.1:8080"
MODES = ("normal", "high_load", "degraded", "maintenance")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a command for each thing that can be done."""
    common = argparse.ArgumentParser(add_help=False)
    for each in (parser, common):
        each.add_argument(
            "--url",
            default=argparse.SUPPRESS,
            help=f"address of the gateway (default: {URL_VARIABLE}, or {DEFAULT_URL})",
        )
        each.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON for programs")
    why = argparse.ArgumentParser(add_help=False)
    why.add_argument("--reason", default="", help="why, for people who look")
    wait = argparse.ArgumentParser(add_help=False)
    wait.add_argument("--wait", action="store_true", help="return when what was running is finished")
    wait.add_argument("--timeout", type=float, default=600.0, metavar="S", help="longest wait (default: %(default)g s)")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("show", parents=[common], help="show what is in force")
    mode = actions.add_parser("mode", parents=[common, why, wait], help="set the mode")
    mode.add_argument("mode", choices=MODES, help="see `python -m largeforge gateway --help`")
    mode.add_argument("--retry-after", type=float, metavar="S", help="when refused clients are to come again")
    for name, text in (("isolate", "break off and refuse at once"), ("release", "let an isolated one back in")):
        one = actions.add_parser(name, parents=[common, why] if name == "isolate" else [common], help=text)
        one.add_argument("kind", choices=("expert", "tenant"), help="who")
        one.add_argument("name", help="its name; of a tenant that in x-largeforge-tenant")
    drain = actions.add_parser("drain", parents=[common, why, wait], help="send a server no new requests")
    drain.add_argument("server", metavar="URL", help="its address, as shown")
    undrain = actions.add_parser("undrain", parents=[common], help="send a drained server requests again")
    undrain.add_argument("server", metavar="URL", help="its address, as shown")
    reload = actions.add_parser(
        "reload", parents=[common], help="take up another topology, router and flags without dropping a request"
    )
    reload.add_argument("words", nargs="*", metavar="+recipe=NAME key=value", help="a recipe; else the gateway's file")


def run(arguments: argparse.Namespace) -> int:
    """Do it, and show what is in force then."""
    from largeforge.client import Operator

    url = getattr(arguments, "url", os.environ.get(URL_VARIABLE) or DEFAULT_URL)
    with Operator(url) as gateway:
        _act(arguments, gateway)
        shown = {**gateway.state(), "ready": gateway.health()}
        if getattr(arguments, "json", False):
            print(json.dumps(shown, indent=2, ensure_ascii=False))
        else:
            _show(url, shown)
    return 0


def _act(arguments: argparse.Namespace, gateway: Operator) -> None:
    action = arguments.action or "show"
    if action == "mode":
        later = {"retry_after_s": arguments.retry_after} if arguments.retry_after else {}
        gateway.set(mode=arguments.mode, reason=arguments.reason or None, **later)
        if arguments.wait:
            gateway.wait_until_idle(timeout_s=arguments.timeout, report=_report)
    elif action in ("isolate", "release"):
        change = {arguments.name: arguments.reason if action == "isolate" else None}
        gateway.set(**{f"{arguments.kind}s": change})
    elif action in ("drain", "undrain"):
        server = arguments.server.rstrip("/")
        gateway.set(drained={server: arguments.reason if action == "drain" else None})
        if action == "drain" and arguments.wait:
            gateway.wait_until_idle(server=server, timeout_s=arguments.timeout, report=_report)
    elif action == "reload":
        _reload(arguments.words, gateway)


def _reload(words: list[str], gateway: Operator) -> None:
    if not words:
        gateway.reload()
        return
    from largeforge.gateway.admin.from_recipe import changed
    from largeforge.recipe.compose import compose
    from largeforge.recipe.validate import validate

    recipe = validate(compose(words))
    served, digest = gateway.config()
    gateway.put_config(changed(served, recipe), instead_of=digest)


def _report(left: int) -> None:
    print(f"{left} request{'s are' if left != 1 else ' is'} still being answered …", flush=True)


def _show(url: str, shown: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    because = f" · {escape(shown['reason'])}" if shown["reason"] else ""
    mode = f"{shown['in_force']}" if shown["in_force"] == shown["mode"] else f"{shown['in_force']} ({shown['mode']})"
    is_ready = "ready" if shown["ready"]["ready"] else "not ready"
    console.print(f"[bold]{escape(url)}[/]  {mode}{because}  {is_ready}, {shown['in_flight']} in flight")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("expert", "server", "state", "requests", "why"):
        table.add_column(column, overflow="fold")
    for name, health in shown["ready"]["experts"].items():
        _add_rows(table, name, health, shown)
    console.print(table)
    for tenant, reason in shown["tenants"].items():
        console.print(f"tenant {escape(tenant)} is isolated{': ' * bool(reason)}{escape(reason)}")
    console.print(f"[dim]topology {shown['config'][:12]}, LargeForge {shown['version']}[/]")


def _add_rows(table: Any, name: str, health: dict[str, Any], shown: dict[str, Any]) -> None:
    """Add a row for each server of an expert."""
    from rich.markup import escape

    for number, server in enumerate(health["replicas"]):
        url, state, reason = server["url"], server["state"], server["reason"]
        if health["state"] == "isolated":
            state, reason = "isolated", health["reason"]
        elif url in shown["drained"]:
            state, reason = "drained", shown["drained"][url]
        elif server["breaker"] != "closed":
            state, reason = f"breaker {server['breaker']}", reason or "failed again and again"
        color = "green" if state == "up" else "yellow" if state in ("drained", "unknown") else "red"
        table.add_row(
            name if number == 0 else "", url, f"[{color}]{state}[/]", str(server["outstanding"]), escape(reason)
        )
