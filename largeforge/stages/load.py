"""Put what a stage serves under load: the report into its artifact, a table and gates into its events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge import loadtest
from largeforge.artifacts import write_json
from largeforge.errors import LoadTestError
from largeforge.judging.verdict import require
from largeforge.loadtest import prompts
from largeforge.loadtest.report import PREFIX
from largeforge.recipe import hub, model_ref

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from largeforge.recipe.schema import LoadTest, Topology
    from largeforge.serving.placement import ServedExpert
    from largeforge.stages.context import Context

REPORT = "load_test.json"


def check(section: LoadTest | None) -> None:
    """Look for rows that ask nothing, before any model is loaded.

    Raises DataError.
    """
    if section and section.path:
        prompts.requests(section.path)


def measure(
    section: LoadTest,
    url: str,
    *,
    topology: Topology,
    experts: Sequence[ServedExpert],
    context: Context,
    watch: Callable[[], None],
    python: str = "",
    ca: str = "",
) -> dict[str, float]:
    """Run the load test against a gateway and return its metrics.

    Raises GateError that lists every gate that refused.
    """
    emit = context.events.emit
    report = loadtest.run(
        section,
        url,
        tokenizer=tokenizer(section, topology, experts),
        work_folder=context.work,
        report=lambda text: emit("note", text=text),
        progress=lambda done, total: emit("progress", step=done, total=total, unit="requests"),
        watch=watch,
        python=python,
        ca=ca,
    )
    verdicts = loadtest.verdicts(report, section.gates)
    emit("table", **loadtest.table(report))
    for verdict in verdicts:
        emit("gate", **verdict.as_dict())
    write_json(context.out / REPORT, {**report.as_dict(), "gates": [verdict.as_dict() for verdict in verdicts]})
    require(verdicts, subject="what is served", more="a longer load test", key="load_test.gates")
    return {PREFIX + name: value for name, value in report.metrics.items()}


def tokenizer(section: LoadTest, topology: Topology, experts: Sequence[ServedExpert]) -> str:
    """Return the folder whose tokenizer makes prompts of a given length: of the expert that is asked, or of its base.

    Where the router chooses, it is that of the fallback.
    """
    by_name = {expert.name: expert for expert in experts}
    first = by_name[topology.fallback if section.expert == "auto" else section.expert]
    model = by_name[first.adapter_on] if first.adapter_on else first
    if model.is_local:
        return model.location
    try:
        return str(hub.snapshot(model_ref.parse(model.reference)))
    except (hub.NotFound, ValueError) as error:
        raise LoadTestError(f"load_test: the tokenizer of {model.reference} is not on this machine: {error}") from error
