"""docs/observe.md names every metric, asks for none that there is not, and its command and its log line are right."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from largeforge.gateway.access import AccessLog, Exchange, RequestLog
from largeforge.gateway.app import create_app
from largeforge.gateway.config import GatewayFile
from largeforge.gateway.tokens import Usage
from tests.guides import commands, page, planned

GUIDE = page("observe")
PREFIX = "largeforge_gateway_"
SCRAPE, RULES = re.findall(r"```yaml\n(.*?)```", GUIDE, re.S)


@pytest.fixture(scope="module")
def names() -> set[str]:
    """All series of a gateway, without the prefix and without those that a histogram consists of."""
    registry = CollectorRegistry()
    upstream = {"url": "http://127.0.0.1:9", "served_model": "general", "model": "registry:general/1"}
    file = GatewayFile.model_validate(
        {
            "router": {"name": "keyword"},
            "topology": {"experts": {"general": {"model": "registry:general/1"}}, "fallback": "general"},
            "upstreams": {"general": upstream},
        }
    )
    create_app(file, registry=registry)
    families = list(registry.collect())
    assert all(family.name.startswith(PREFIX) for family in families)
    return {family.name.removeprefix(PREFIX) + ("_total" if family.type == "counter" else "") for family in families}


def test_the_table_has_every_metric_and_no_other(names: set[str]) -> None:
    table = GUIDE.partition("| metric |")[2].partition("\n\n")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for cell in first for name in re.findall(r"`(\w+)`", cell)} == names


def test_queries_ask_for_what_there_is(names: set[str]) -> None:
    asked = {name.removesuffix("_bucket") for name in re.findall(rf"{PREFIX}(\w+)", RULES)}
    assert asked
    assert asked <= names
    recorded = {rule["record"] for rule in yaml.safe_load(RULES)["groups"][0]["rules"] if "record" in rule}
    assert set(re.findall(r"largeforge:[\w:]+", RULES)) == recorded


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool")
def test_prometheus_takes_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text(SCRAPE)
    (tmp_path / "largeforge.rules.yml").write_text(RULES)
    subprocess.run(["promtool", "check", "config", tmp_path / "prometheus.yml"], check=True, timeout=60)


@pytest.mark.parametrize("command", [line.removeprefix("python -m largeforge ") for line in commands(GUIDE)])
def test_the_command_can_be_planned(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    planned(command, capsys)


async def test_the_line_of_the_log_has_these_fields() -> None:
    (shown,) = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", GUIDE, re.S))
    told: dict[str, object] = {}

    async def answer(scope: dict[str, object], receive: Callable[..., object], send: Callable[..., object]) -> None:
        exchange = scope["largeforge.exchange"]
        assert isinstance(exchange, Exchange)
        exchange.route, exchange.usage = "keyword:order", Usage(1, 1)
        exchange.first_byte_at = exchange.first_token_at = 0.0

    log = AccessLog(answer, RequestLog(clock=lambda: 0.0, write=lambda _, fields: told.update(fields)))  # type: ignore[arg-type]
    await log({"type": "http", "method": "POST", "path": "/", "headers": []}, None, None)  # type: ignore[arg-type]
    assert list(shown) == ["time", "level", "logger", "message", *told]
