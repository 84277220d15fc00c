"""Panels as Grafana's JSON, with Grafana's own SDK, and the files by which a Grafana finds them.

Needs the package grafana-foundation-sdk (`pip install 'largeforge[monitoring]'`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.errors import DeployError
from largeforge.monitoring.panels import TITLES, TOPICS, boards

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.monitoring.panels import Panel, Topic
    from largeforge.recipe.sections.slos import Slo

GREEN, YELLOW, RED = "green", "yellow", "red"
WIDTHS = {"lines": 12, "number": 6}
"""Of the 24 columns of a dashboard."""
HEIGHT = 8


def files(slo: Slo, *, deployment: str, price_usd: float = 0.0) -> dict[str, str]:
    """Return the dashboards: name of the file to its JSON.

    Raises DeployError where the SDK is not there.
    """
    found = boards(slo, deployment=deployment, price_usd=price_usd)
    return {f"{topic}.json": _dashboard(topic, found[topic], deployment) for topic in TOPICS}


def provider(*, deployment: str, folder: str) -> dict[str, Any]:
    """Return the content of the file that tells Grafana where the dashboards are."""
    name = f"largeforge-{deployment}"
    about = {"name": name, "folder": f"LargeForge: {deployment}", "type": "file", "allowUiUpdates": False}
    return {"apiVersion": 1, "providers": [{**about, "options": {"path": folder}}]}


def data_source(*, deployment: str, url: str) -> dict[str, Any]:
    """Return the content of the file that tells Grafana where Prometheus is."""
    source = {"name": f"LargeForge {deployment}", "uid": source_uid(deployment), "type": "prometheus", "url": url}
    return {"apiVersion": 1, "datasources": [{**source, "access": "proxy", "isDefault": False, "editable": False}]}


def source_uid(deployment: str) -> str:
    """Return by what dashboards name the data source; Grafana takes up to 40 characters."""
    return f"lf-{deployment}"[:40]


def _dashboard(topic: Topic, panels: Sequence[Panel], deployment: str) -> str:
    try:
        from grafana_foundation_sdk.builders import dashboard
        from grafana_foundation_sdk.cog.encoder import JSONEncoder
    except ImportError:
        raise DeployError(
            "dashboards need the package grafana-foundation-sdk on this machine (largeforge[monitoring])"
        ) from None
    made = (
        dashboard.Dashboard(f"{deployment}: {TITLES[topic]}")
        .uid(f"lf-{topic}-{deployment}"[:40])
        .tags(["largeforge", deployment])
        .readonly()
        .refresh("30s")
        .time("now-6h", "now")
    )
    for panel in panels:
        made = made.with_panel(_panel(panel, deployment))
    text: str = JSONEncoder(sort_keys=True, indent=1).encode(made.build())
    return text + "\n"


def _panel(panel: Panel, deployment: str) -> Any:
    from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
    from grafana_foundation_sdk.models.common import GraphTresholdsStyleMode
    from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode

    source = DataSourceRef(type_val="prometheus", uid=source_uid(deployment))
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    made = (
        (timeseries.Panel() if panel.kind == "lines" else stat.Panel().reduce_options(last))
        .title(panel.title)
        .unit(panel.unit)
        .datasource(source)
        .span(WIDTHS[panel.kind])
        .height(HEIGHT)
    )
    if panel.description:
        made = made.description(panel.description)
    if steps := _steps(panel):
        marks = [Threshold(value=value, color=color) for value, color in steps]
        made = made.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(marks))
        if panel.kind == "lines":
            made = made.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.LINE))
    for index, query in enumerate(panel.queries):
        asked = prometheus.Dataquery().expr(query.expression).datasource(source).ref_id(chr(ord("A") + index))
        made = made.with_target(asked.legend_format(query.legend) if query.legend else asked)
    return made


def _steps(panel: Panel) -> list[tuple[float | None, str]]:
    """Return from which values on a panel has which colour; none where it has no limits."""
    if panel.good_from is not None:
        warned = [] if panel.warn_below is None else [(panel.good_from, YELLOW), (panel.warn_below, GREEN)]
        return [(None, RED), *(warned or [(panel.good_from, GREEN)])]
    if panel.bad_from is None:
        return []
    warned = [] if panel.warn_from is None else [(panel.warn_from, YELLOW)]
    return [(None, GREEN), *warned, (panel.bad_from, RED)]
