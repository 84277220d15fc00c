"""Recording and alert rules of Prometheus for what a deployment promises.

Each objective is recorded as the share of bad events over each window that its alerts look at, and as what is left of
its error budget. An alert needs the budget to burn fast over a long window and still over a short one: multiwindow,
multi-burn-rate alerts (Beyer et al., The Site Reliability Workbook, 2018, chapter 5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.monitoring import indicators, names, signals
from largeforge.monitoring.names import duration, equals, selected

if TYPE_CHECKING:
    from largeforge.recipe.sections.slos import BurnRate, Objective, Slo, Threshold

Rule = dict[str, Any]
BAD = "slo:bad:ratio_rate"
"""Share of bad events; a window follows."""
EVENTS = "slo:events:increase"
"""Number of events; a window follows."""
LEFT, GOAL = "slo:error_budget_left:ratio", "slo:objective:ratio"
SLOW_S = 3600.0
"""Windows that are longer are computed less often: they change slowly and cost more."""
LOOKBACK_S = 300.0
"""How long Prometheus takes the last sample of a series for its present value (`--query.lookback-delta`)."""
SLOW_EVERY_S = 120.0
"""How often that is: at least twice within `LOOKBACK_S`, since what is computed is there only when the whole group is,
and would else be missing for moments in which an alert goes and comes again."""
ROLLED_BACK_S = 3600.0
"""How long it is told that a rollout was rolled back."""
ALONE_S = 300.0
"""A running rollout that no controller has looked at for so long is told."""


def groups(slo: Slo, *, deployment: str = "") -> list[dict[str, Any]]:
    """Return the groups of a rules file; `deployment` is the label of what is scraped, empty where there is none."""
    where = equals("deployment", deployment) if deployment else ""
    labels = {"deployment": deployment} if deployment else {}
    found = []
    for name, objective in slo.objectives.items():
        quick, slow = _recorded(name, objective, slo, where, labels)
        alerts = [_burning(name, objective, alert, slo, labels) for alert in slo.burn_rates]
        prefix = f"slo-{deployment}-{name}" if deployment else f"slo-{name}"
        found.append({"name": prefix, "rules": [*quick, *filter(None, alerts)]})
        found.append({"name": f"{prefix}-slow", "interval": duration(SLOW_EVERY_S), "rules": slow})
    if slo.alerts:
        rules = [_above_or_below(name, alert, where, labels) for name, alert in slo.alerts.items()]
        found.append({"name": f"alerts-{deployment}" if deployment else "alerts", "rules": rules})
    return found


def rollouts(*, deployment: str = "") -> dict[str, Any]:
    """Return the group of rules for rollouts.

    All of them are tickets: whoever was rolled back or taken out harms nobody any more, and a canary without a
    controller is guarded by the gateway itself. What users notice meanwhile is for the objectives' alerts to page for.
    """
    where = equals("deployment", deployment) if deployment else ""
    labels = {"severity": "ticket", **({"deployment": deployment} if deployment else {})}

    def latest(metric: str, *matchers: str) -> str:
        return f"max by (expert) ({selected(metric, where, *matchers)})"

    back = f"time() - {latest(names.ROLLOUT_CHANGED, equals('phase', 'rolled_back'))}"
    running = latest(names.ROLLOUT_PHASE, equals("phase", "running"))
    told = {
        "RolloutRolledBack": (
            f"{back} < {ROLLED_BACK_S:g}", "the new model of {{ $labels.expert }} was rolled back",
            "The old one has all of the traffic again. The gateway's page /monitor has the reasons.",
        ),
        "CanaryTakenOut": (
            f"{latest(names.CANARY_GUARDED)} == 1",
            "a gateway took the canary of {{ $labels.expert }} out by itself",
            "It was surely bad, and no controller looked after it. /monitor has the reason; it gets no traffic before "
            "a controller, or a person, takes note.",
        ),
        "RolloutWithoutController": (
            f"time() - {latest(names.ROLLOUT_SEEN)} > {ALONE_S:g} and {running} == 1",
            "no controller has looked at the rollout of {{ $labels.expert }} for {{ $value | humanizeDuration }}",
            "It goes neither on nor back. The gateway takes the canary out if it fails or answers badly; that it has "
            "become slow, nobody sees.",
        ),
    }  # fmt: skip
    rules = [
        {"alert": name, "expr": expression, "labels": labels.copy(),
         "annotations": {"summary": summary, "description": description}}
        for name, (expression, summary, description) in told.items()
    ]  # fmt: skip
    return {"name": f"rollouts-{deployment}" if deployment else "rollouts", "rules": rules}


def _recorded(
    name: str, objective: Objective, slo: Slo, where: str, labels: dict[str, str]
) -> tuple[list[Rule], list[Rule]]:
    """Return the recording rules of an objective: those of short windows, and those of long ones."""
    own = {"objective": name, **labels}
    whole = slo.window_days * 86400
    windows = sorted({whole, *(hours * 3600 for one in slo.burn_rates for hours in (one.long_h, one.short_h))})
    quick: list[Rule] = [{"record": GOAL, "expr": f"vector({objective.objective:g})", "labels": own}]
    slow: list[Rule] = []
    for seconds in windows:
        window = duration(seconds)
        ratio = f"{indicators.bad(objective, window, where)} / {indicators.events(objective, window, where)}"
        (quick if seconds <= SLOW_S else slow).append({"record": f"{BAD}{window}", "expr": ratio, "labels": own})
    for seconds in sorted({one.long_h * 3600 for one in slo.burn_rates}):
        window = duration(seconds)
        count = f"{indicators.events(objective, window, where)} * {round(seconds)}"
        (quick if seconds <= SLOW_S else slow).append({"record": f"{EVENTS}{window}", "expr": count, "labels": own})
    burnt = _of(f"{BAD}{duration(whole)}", own)
    slow.append({"record": LEFT, "expr": f"1 - {burnt} / {1 - objective.objective:g}", "labels": own})
    return quick, slow


def _burning(name: str, objective: Objective, alert: BurnRate, slo: Slo, labels: dict[str, str]) -> Rule | None:
    """Return an alert of an objective; None where even nothing but bad events would not raise it."""
    burn_rate = alert.rate(slo.window_days)
    limit = burn_rate * (1 - objective.objective)
    if limit >= 1:
        return None
    own = {"objective": name, **labels}
    long, short = duration(alert.long_h * 3600), duration(alert.short_h * 3600)
    parts = [f"{_of(f'{BAD}{window}', own)} > {limit:.6g}" for window in (long, short)]
    if slo.min_events:
        parts.append(f"{_of(f'{EVENTS}{long}', own)} >= {slo.min_events}")
    whose = " of {{ $labels.expert }}" if objective.by_expert else ""
    return {
        "alert": "ErrorBudgetBurns",
        "expr": " and ".join(parts),
        "labels": {"severity": alert.severity, "window": long, **own},
        "annotations": {
            "summary": f"{name}{whose}: {{{{ $value | humanizePercentage }}}} bad over {long}, "
            f"{objective.objective:.6g} is promised",
            "description": f"At {burn_rate:.3g} times the rate that the objective allows, {alert.budget:.0%} of the "
            f"error budget of {slo.window_days:g} days is used up in {long}.",
        },
    }


def _above_or_below(name: str, alert: Threshold, where: str, labels: dict[str, str]) -> Rule:
    by = ("expert",) if alert.by_expert else ()
    sign, limit = (">", alert.above) if alert.above is not None else ("<", alert.below)
    whose = " of {{ $labels.expert }}" if alert.by_expert else ""
    direction = "over" if sign == ">" else "under"
    rule: Rule = {
        "alert": "".join(part.capitalize() for part in name.replace("-", "_").split("_")),
        "expr": f"({signals.expression(alert.signal, where, by)}) {sign} {limit:g}",
        "labels": {"severity": alert.severity, "signal": alert.signal, **labels},
        "annotations": {"summary": f"{alert.signal}{whose} is {{{{ $value | humanize }}}}, {direction} {limit:g}"},
    }
    if alert.for_s:
        rule["for"] = duration(alert.for_s)
    return rule


def _of(metric: str, labels: dict[str, str]) -> str:
    return selected(metric, *(equals(key, value) for key, value in labels.items()))
