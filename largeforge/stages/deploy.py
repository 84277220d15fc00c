"""Put a topology on the hosts of an inventory, ask it questions there, and leave it serving."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import write_json
from largeforge.deploy import telling
from largeforge.deploy.controller import Controller, Outcome, preview
from largeforge.deploy.rollouts.plain import as_dict
from largeforge.deploy.rollouts.registered import settle
from largeforge.deploy.seating import deployment_of, involved_hosts, placed, request, url_of, wanted_of
from largeforge.deploy.tls import clients_trust
from largeforge.errors import DeployError
from largeforge.events import Events
from largeforge.gateway.learning import located
from largeforge.recipe.sections.autoscaling import Autoscaling
from largeforge.recipe.sections.deploying import Deploy
from largeforge.recipe.sections.hosts import Hosts
from largeforge.recipe.sections.monitoring import Monitoring
from largeforge.recipe.sections.rollouts import Rollout
from largeforge.recipe.sections.slos import Slo
from largeforge.serving import placement, templates
from largeforge.stages import load, serve
from largeforge.stages.context import Context, Result

if TYPE_CHECKING:
    from largeforge.deploy.controller import Preview
    from largeforge.deploy.desired import Wanted
    from largeforge.placing import Row
    from largeforge.serving.placement import ServedExpert

DEPLOYED = "deployed.json"
ANSWERS = "answers.json"
LOGS = "hosts"
"""Folder with a log for each host."""
TRUSTED = "trusted.pem"
"""Certificates that clients must trust; empty where that is not the deployment's affair."""


class Config(serve.Config):
    """What to serve, where, and what to ask it."""

    deploy: Deploy
    hosts: Hosts
    recipe: str
    """Name of the recipe, and of the deployment where it has no other."""
    needs: dict[str, dict[str, Any]] = {}
    """By server, the memory that it needs, as the plan worked it out."""
    monitoring: Monitoring = Monitoring()
    slo: Slo = Slo()
    rollout: Rollout = Rollout(strategy="immediate")
    aliases: dict[str, str] = {}
    """By expert, the `NAME@ALIAS` of the registry that its model is named by."""
    price_usd: float = 0.0
    """Dollars for an hour of one GPU, or of one machine without any; 0 means unknown."""
    autoscaling: Autoscaling = Autoscaling()


def run(config: Config, context: Context) -> Result:
    """Deploy, verify, and write down what was done."""
    experts = serve.served_experts(config, context)
    router = located(config.router, context.inputs[serve.ROUTE]) if serve.ROUTE in context.inputs else config.router
    config = config.model_copy(update={"router": router})
    places = placement.place(experts)
    names = involved_hosts(config)
    answers: list[serve.Answer] = []
    measured: dict[str, float] = {}
    trusted = context.out / TRUSTED

    def decide(looks: Mapping[str, Mapping[str, Any]]) -> Wanted:
        wanted = wanted_of(config, experts, places, looks, lock=context.lock)
        trusted.write_text(clients_trust(wanted))
        return wanted

    def complete(wanted: Wanted) -> Wanted:
        context.events.emit("note", text="writing a conversation as the training did, to compare")
        probe = templates.Probe([place for place in places if place.base.task == "generate" and place.replica == 1])
        try:
            return replace(wanted, expected=probe.results())
        finally:
            probe.stop()

    def verify() -> None:
        ca = str(trusted) if trusted.stat().st_size else ""
        answers.extend(serve.ask_all(config, context, url_of(config), lambda: None, ca=ca))
        if config.load_test:
            measured.update(load.measure(
                config.load_test, url_of(config), topology=config.topology, experts=experts, context=context,
                watch=lambda: None, python=config.serving.python, ca=ca,
            ))  # fmt: skip

    logs = telling.HostLogs(context.out / LOGS)

    def report(host: str, text: str) -> None:
        logs.write(host, text)
        context.events.emit("note", text=f"{host}: {text}" if host else text)

    controller = Controller(
        config.hosts, names, deployment_of(config), request=lambda name: request(config, name), report=report,
        parallel=config.deploy.parallel,
        settle=lambda document: settle(document, config.registry, deployment_of(config), report=report),
    )  # fmt: skip
    try:
        outcome = controller.deploy(decide, verify, complete=complete)
    except DeployError as error:
        raise _advised(error, config, logs) from error
    if outcome.rollout and not outcome.rollout.ended:
        end = f"`python -m largeforge rollout promote {config.hosts.name} {deployment_of(config)}` or `abort` ends it"
        context.events.emit("note", text=f"the rollout rests as it is; {end}")
    if outcome.is_nothing:
        context.events.emit("note", text="nothing to change: all hosts are as the recipe says")
    else:
        context.events.emit("table", **telling.table(outcome))
    write_json(context.out / ANSWERS, [asdict(answer) for answer in answers])
    write_json(context.out / DEPLOYED, _told(outcome))
    context.events.emit("note", text=f"Serving at {url_of(config)}/v1")
    if trusted.stat().st_size:
        context.events.emit("note", text=f"Clients trust it with LARGEFORGE_CA={trusted} (or SSL_CERT_FILE)")
    return Result({**_metrics(outcome, answers), **measured}, {"url": url_of(config), "experts": _references(experts)})


def previewed(config: Config, lock: str) -> tuple[Preview, list[Row]]:
    """Look at the hosts and return what a deployment would change, and where servers are put; nothing is changed.

    Raises ModelError where a model does not exist yet, and DeployError when the servers do not fit on the hosts.
    """
    context = Context("deploy", {}, Path(), Path(), Events("deploy", io.StringIO()), lock)
    experts = serve.served_experts(config, context)
    places = placement.place(experts)
    rows: list[Row] = []

    def decide(looks: Mapping[str, Mapping[str, Any]]) -> Wanted:
        rows.extend(placed(config, places, looks).rows())
        return wanted_of(config, experts, places, looks, lock=lock)

    found = preview(
        config.hosts, involved_hosts(config), decide, lambda name: request(config, name),
        parallel=config.deploy.parallel,
    )  # fmt: skip
    return found, rows


def _advised(error: DeployError, config: Config, logs: telling.HostLogs) -> DeployError:
    """Return an error with what to do about it; each host's log has its own part."""
    for host, text in telling.by_host(str(error), config.hosts.hosts).items():
        logs.write(host, f"FAILED: {text}")
    advice = telling.advice(str(error), inventory=config.hosts.name, deployment=deployment_of(config))
    return DeployError("\n".join(filter(None, (str(error), advice, f"Logs of hosts: {logs.folder}"))))


def _told(outcome: Outcome) -> dict[str, Any]:
    done = [
        {
            "host": one.replacement.new.host, "service": one.replacement.new.service,
            "release": one.replacement.new.key,
            "instead_of": one.replacement.old.key if one.replacement.old else "", "mode": one.replacement.mode,
            "seconds": one.seconds, "down_s": one.down_s,
        }
        for one in outcome.done
    ]  # fmt: skip
    return {
        "rollout": as_dict(outcome.rollout) if outcome.rollout else None,
        "changed": outcome.changed,
        "replaced": done,
        "removed": [vars(one) for one in outcome.removed],
        "seconds": outcome.seconds,
    }


def _metrics(outcome: Outcome, answers: list[serve.Answer]) -> dict[str, float]:
    return {
        **serve.metrics(answers),
        "changes": float(sum(outcome.changed.values())),
        "replaced": float(len(outcome.done)),
        "longest_down_s": max((one.down_s for one in outcome.done), default=0.0),
        "deploy_s": outcome.seconds,
    }


def _references(experts: list[ServedExpert]) -> dict[str, str]:
    return {expert.name: expert.reference for expert in experts}
