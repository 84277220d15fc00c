"""What dashboards show of a deployment, by topic: panels with their queries, whatever draws them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from largeforge.monitoring import names, rules, signals
from largeforge.monitoring.names import duration, equals, rate, selected

if TYPE_CHECKING:
    from largeforge.recipe.sections.slos import Objective, Signal, Slo

Topic = Literal["slo", "latency", "throughput", "routing", "rollouts", "quality", "gpu", "cost"]
TOPICS: tuple[Topic, ...] = get_args(Topic)
TITLES: dict[Topic, str] = {
    "slo": "Objectives and error budgets", "latency": "Latency", "throughput": "Throughput", "routing": "Routing",
    "rollouts": "Rollouts",
    "quality": "Quality by expert", "gpu": "GPUs and hosts", "cost": "Cost",
}  # fmt: skip
BY_EXPERT = ("expert",)
JUDGES = ("schema_valid", "thumbs", "judge", "agreement")
LOW_BUDGET = 0.25
"""Share of an error budget under which what is left is shown in yellow."""


@dataclass(frozen=True)
class Query:
    """A line of a panel."""

    expression: str
    legend: str = ""
    """Name of each of its series; labels stand in double braces."""


@dataclass(frozen=True)
class Panel:
    """One picture."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    """As Grafana names it."""
    kind: Literal["lines", "number"] = "lines"
    good_from: float | None = None
    """Values below this are red."""
    warn_below: float | None = None
    """Values below this, and not red, are yellow."""
    bad_from: float | None = None
    """Values from this on are red."""
    warn_from: float | None = None
    """Values from this on, and not red, are yellow."""
    description: str = ""


def boards(slo: Slo, *, deployment: str, price_usd: float = 0.0) -> dict[Topic, list[Panel]]:
    """Return the panels of each topic; `price_usd` is that of an hour of everything, 0 where it is not known."""
    where = equals("deployment", deployment)
    return {
        "slo": _promised(slo, where, deployment),
        "latency": _latency(where),
        "throughput": _throughput(where),
        "routing": _routing(where),
        "rollouts": _rollouts(where),
        "quality": _quality(where),
        "gpu": _gpu(where),
        "cost": _cost(where, price_usd),
    }


def _promised(slo: Slo, where: str, deployment: str) -> list[Panel]:
    """Return what is promised: of each objective how it is kept, and what is left of its error budget."""
    found = [
        panel
        for name, objective in slo.objectives.items()
        for panel in _objective(name, objective, slo, deployment)
    ]  # fmt: skip
    for name, alert in slo.alerts.items():
        by = BY_EXPERT if alert.by_expert else ()
        query = Query(signals.expression(alert.signal, where, by), "{{expert}}" if by else alert.signal)
        found.append(Panel(
            f"{name}: {alert.signal}", (query,), _unit(alert.signal), good_from=alert.below, bad_from=alert.above,
            warn_below=None if alert.below is None else alert.goal,
            warn_from=None if alert.above is None else alert.goal,
            description=f"Alert {name}, after {duration(alert.for_s)}.",
        ))  # fmt: skip
    firing = selected("ALERTS", where, equals("alertstate", "firing"))
    return [*found, Panel("Alerts that are raised", (Query(firing, "{{alertname}} {{objective}} {{severity}}"),))]


def _objective(name: str, objective: Objective, slo: Slo, deployment: str) -> list[Panel]:
    own = (equals("objective", name), equals("deployment", deployment))
    whole = duration(slo.window_days * 86400)
    legend = "{{expert}}" if objective.by_expert else ""
    late = f" within {objective.threshold_ms:g} ms" if objective.threshold_ms else ""
    about = f"{objective.indicator}{late}: {objective.objective:.6g} is promised over {slo.window_days:g} days."
    kept = Panel(
        f"{name}: kept over {whole} (goal {objective.objective:.6g})",
        (Query(f"1 - {selected(f'{rules.BAD}{whole}', *own)}", legend),), "percentunit", "number",
        good_from=objective.objective, description=about,
    )  # fmt: skip
    left = Panel(
        f"{name}: error budget left", (Query(selected(rules.LEFT, *own), legend),), "percentunit", "number",
        good_from=0.0, warn_below=LOW_BUDGET, description=about,
    )  # fmt: skip
    windows = sorted({one.short_h * 3600 for one in slo.burn_rates} | {one.long_h * 3600 for one in slo.burn_rates})
    burning = tuple(
        Query(f"{selected(f'{rules.BAD}{duration(window)}', *own)} / {1 - objective.objective:g}", duration(window))
        for window in windows
    )
    fastest = max((one.rate(slo.window_days) for one in slo.burn_rates), default=None)
    rates = Panel(
        f"{name}: how fast the error budget burns", burning, bad_from=None if fastest is None else round(fastest, 3),
        description="1 uses it up in just the window; red is where the most urgent alert is raised.",
    )  # fmt: skip
    return [kept, left, *([rates] if burning else [])]


def _latency(where: str) -> list[Panel]:
    found = []
    for title, metric in (
        ("Whole answers", names.DURATION), ("First token", names.TTFT), ("Gap between tokens", names.INTER_TOKEN),
    ):  # fmt: skip
        shares = tuple(
            Query(signals.quantile(metric, share, where), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)
        )
        found.append(Panel(title, shares, "ms"))
        by = Query(signals.quantile(metric, 0.95, where, BY_EXPERT), "{{expert}}")
        found.append(Panel(f"{title}, p95 by expert", (by,), "ms"))
    wait = Query(signals.quantile(f"{names.GATEWAY}_queue_wait_seconds", 0.95, where, BY_EXPERT), "{{expert}}")
    return [*found, Panel("Wait for a busy expert, p95", (wait,), "ms")]


def _throughput(where: str) -> list[Panel]:
    def now(metric: str, legend: str, *by: str) -> Query:
        return Query(names.summed(selected(metric, where), by), legend)

    return [
        Panel("Requests", (_per_second(names.REQUESTS, where, "expert"),), "reqps"),
        Panel("Requests by status", (_per_second(names.REQUESTS, where, "status"),), "reqps"),
        Panel("Tokens", (_per_second(names.TOKENS, where, "kind"),)),
        Panel(
            "Completion tokens by expert", (_per_second(names.TOKENS, where, "expert", equals("kind", "completion")),)
        ),
        Panel("Being answered", (now(f"{names.GATEWAY}_requests_in_flight", "in flight"),)),
        Panel("Waiting for a busy expert", (now(names.WAITING, "{{expert}}", "expert"),)),
        Panel("Running in vLLM", (now("vllm:num_requests_running", "{{host}} {{server}}", "host", "server"),)),
        Panel("Waiting in vLLM", (now("vllm:num_requests_waiting", "{{host}} {{server}}", "host", "server"),)),
    ]


def _routing(where: str) -> list[Panel]:
    every = rate(names.REQUESTS, signals.WINDOW, where)
    share = Query(f"{rate(names.REQUESTS, signals.WINDOW, where, by=BY_EXPERT)} / ignoring(expert) group_left {every}",
                  "{{expert}}")  # fmt: skip
    in_use = selected(f"{names.GATEWAY}_replica_in_use", where)
    return [
        Panel("Share of requests by expert", (share,), "percentunit"),
        Panel("Fallbacks by reason", (_per_second(names.FALLBACKS, where, "reason"),), "reqps"),
        Panel("Requests without a good answer", (_per_second(names.ERRORS, where, "error"),), "reqps"),
        Panel("Further attempts", (_per_second(f"{names.GATEWAY}_retries_total", where, "why"),), "reqps"),
        Panel("Refused: too busy", (_per_second(f"{names.GATEWAY}_queue_refusals_total", where, "reason"),), "reqps"),
        Panel("Shadows", (_per_second(f"{names.GATEWAY}_shadows_total", where, "outcome"),), "reqps"),
        Panel("Servers that get requests", (Query(f"max by (expert, replica) ({in_use})", "{{expert}} {{replica}}"),)),
    ]  # fmt: skip


def _rollouts(where: str) -> list[Panel]:
    def latest(metric: str, legend: str, *by: str) -> Query:
        return Query(f"max by ({', '.join(by)}) ({selected(metric, where)})", legend)

    by = ("expert", "arm")
    asked = rate(names.ARM_REQUESTS, signals.WINDOW, where, by=by)
    errors = Query(f"{rate(names.ARM_ERRORS, signals.WINDOW, where, by=by)} / {asked}", "{{expert}} {{arm}}")
    seen = f"time() - max by (expert) ({selected(names.ROLLOUT_SEEN, where)})"
    return [
        Panel("Share of the new model", (latest(names.ROLLOUT_SHARE, "{{expert}}", "expert"),), "percentunit"),
        Panel(
            "Phase", (Query(f"max by (expert, phase) ({selected(names.ROLLOUT_PHASE, where)}) == 1",
                            "{{expert}}: {{phase}}"),),
        ),
        Panel("Errors of the canary beside stable", (errors,), "percentunit",
              description="Those that stable answered in the canary's place count against the canary."),
        Panel("Requests of the canary beside stable", (Query(asked, "{{expert}} {{arm}}"),), "reqps"),
        Panel("Since a controller looked", (Query(seen, "{{expert}}"),), "s"),
        Panel("Canaries that a gateway took out", (latest(names.CANARY_GUARDED, "{{expert}}", "expert"),)),
    ]  # fmt: skip


def _quality(where: str) -> list[Panel]:
    found = [
        Panel(
            f"{judge}: good answers over a day",
            (Query(signals.quality(judge, where, BY_EXPERT, window="1d"), "{{expert}}"),),
            "percentunit",
        )
        for judge in JUDGES
    ]
    before = Query(signals.expression("quality_vs_week_before", where, BY_EXPERT), "{{expert}}")
    counted = _per_second(names.QUALITY, where, "signal")
    return [*found, Panel("Against a week before", (before,), "percentunit"), Panel("Judgements", (counted,))]


def _gpu(where: str) -> list[Panel]:
    def each(metric: str) -> Query:
        return Query(f"max by (host, gpu) ({selected(metric, where)})", "{{host}} GPU {{gpu}}")

    idle = selected("node_cpu_seconds_total", where, equals("mode", "idle"))
    hits = Query(signals.expression("prefix_cache_hit_share", where), "share")
    hosts = {
        "CPU in use": f"1 - avg by (host) (rate({idle}[5m]))",
        "Memory in use": f"1 - {selected('node_memory_MemAvailable_bytes', where)} / "
        f"{selected('node_memory_MemTotal_bytes', where)}",
        "Disk free, the fullest": "min by (host) ("
        f"{selected('node_filesystem_avail_bytes', where)} / {selected('node_filesystem_size_bytes', where)})",
    }  # fmt: skip
    return [
        Panel("GPU in use", (each(names.GPU_USE),), "percentunit"),
        Panel("GPU memory in use", (each(names.GPU_MEMORY),), "percentunit"),
        Panel("GPU power", (each(names.GPU_POWER),), "watt"),
        Panel("GPU temperature", (each(names.GPU_TEMPERATURE),), "celsius"),
        Panel("KV cache in use", (Query(signals.expression("vllm_cache_use", where), "fullest"),), "percentunit"),
        Panel("Prefix cache hits", (hits,), "percentunit"),
        Panel("Model servers that tell what they measure",
              (Query(f"max by (host, server) ({selected(names.SERVER_UP, where)})", "{{host}} {{server}}"),)),
        *(Panel(title, (Query(expression, "{{host}}"),), "percentunit") for title, expression in hosts.items()),
    ]  # fmt: skip


def _cost(where: str, price_usd: float) -> list[Panel]:
    tokens = rate(names.TOKENS, "1h", where)
    energy = names.summed(selected(names.GPU_POWER, where))
    before = Query(signals.expression("cost_per_token_vs_week_before", where), "times")
    found = [
        Panel("What a token costs, a day against that of a week before", (before,)),
        Panel("Tokens in an hour, by expert", (Query(f"3600 * {rate(names.TOKENS, '1h', where, by=BY_EXPERT)}",
                                                     "{{expert}}"),)),
        Panel("GPU power of all", (Query(energy, "all"),), "watt"),
        Panel("GPU energy for a million tokens", (Query(f"{energy} / 3600 / ({tokens} > 0) * 1e3", "Wh"),), "watth"),
    ]  # fmt: skip
    if price_usd:
        each = f"{price_usd:g} / 3600 / ({tokens} > 0) * 1e6"
        found = [
            Panel("An hour", (Query(f"vector({price_usd:g})", "USD"),), "currencyUSD", "number"),
            Panel("A million tokens, at the load of the last hour", (Query(each, "USD"),), "currencyUSD"),
            *found,
        ]
    return found


def _per_second(metric: str, where: str, label: str, *matchers: str) -> Query:
    return Query(rate(metric, signals.WINDOW, where, *matchers, by=(label,)), f"{{{{{label}}}}}")


def _unit(signal: Signal) -> str:
    if signal.endswith("_ms"):
        return "ms"
    if signal.endswith("_load_s"):
        return "s"
    return "percentunit" if "share" in signal or signal in ("availability", "gpu_use", "gpu_memory_use") else "short"
