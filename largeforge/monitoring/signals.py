"""Numbers as they are now, as PromQL: what alerts with a threshold look at, and what panels show."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from largeforge.monitoring import names
from largeforge.monitoring.names import equals, or_zero, rate, selected, summed

if TYPE_CHECKING:
    from largeforge.recipe.sections.slos import Signal

By = tuple[str, ...]
WINDOW = "5m"
STARTED_S = 3600.0
"""How long it is told that a server was slow to start."""


def expression(signal: Signal, where: str, by: By = ()) -> str:
    """Return PromQL for a signal; `where` selects the deployment, `by` are labels to tell apart."""
    return _SIGNALS[signal](where, by)


def quantile(metric: str, share: float, where: str, by: By = (), window: str = WINDOW, offset: str = "") -> str:
    """Return a quantile of a histogram, in milliseconds."""
    past = f" offset {offset}" if offset else ""
    buckets = summed(f"rate({selected(f'{metric}_bucket', where)}[{window}]{past})", (*by, "le"))
    return f"1000 * histogram_quantile({share:g}, {buckets})"


def _quantile(metric: str, share: float) -> Callable[[str, By], str]:
    return lambda where, by: quantile(metric, share, where, by)


def _latency_vs_day_before(where: str, by: By) -> str:
    now, before = (quantile(names.DURATION, 0.95, where, by, offset=offset) for offset in ("", "1d"))
    return f"({now}) / ({before})"


def _error_share(where: str, by: By) -> str:
    every = rate(names.REQUESTS, WINDOW, where, names.VALID, by=by)
    return f"{or_zero(rate(names.REQUESTS, WINDOW, where, names.FAILED, by=by), every)} / {every}"


def _errors(where: str, by: By) -> str:
    return or_zero(rate(names.REQUESTS, WINDOW, where, names.FAILED, by=by), rate(names.REQUESTS, WINDOW, where, by=by))


def _availability(where: str, by: By) -> str:
    return f"1 - {_error_share(where, by)}"


def _requests(where: str, by: By) -> str:
    return rate(names.REQUESTS, WINDOW, where, by=by)


def _fallback_share(where: str, by: By) -> str:
    every = rate(names.REQUESTS, WINDOW, where, names.VALID)
    return f"{or_zero(rate(names.FALLBACKS, WINDOW, where), every)} / {every}"


def _schema_valid_share(where: str, by: By) -> str:
    return quality("schema_valid", where, by)


def quality(signal: str, where: str, by: By = (), window: str = WINDOW, offset: str = "") -> str:
    """Return the share of good ones among judgements of one kind, or where it is empty of all but the schema's."""
    past = f" offset {offset}" if offset else ""
    kind, is_good = equals("signal", signal) if signal else 'signal!="schema_valid"', equals("good", "true")
    every = summed(f"rate({selected(names.QUALITY, where, kind)}[{window}]{past})", by)
    good = summed(f"rate({selected(names.QUALITY, where, kind, is_good)}[{window}]{past})", by)
    return f"{or_zero(good, every)} / {every}"


def _quality_vs_week_before(where: str, by: By) -> str:
    now, before = (quality("", where, by, window="1d", offset=offset) for offset in ("", "7d"))
    return f"({now}) / ({before})"


def _cost_vs_week_before(where: str, by: By) -> str:
    now, before = (_machines_per_token(where, offset) for offset in ("", " offset 7d"))
    return f"({now}) / ({before})"


def _machines_per_token(where: str, past: str) -> str:
    """Return how many machines there were for each token per second over a day: GPUs that are measured, at work or not,
    or model servers where none is. At the same price of an hour that is what a token costs; nothing without tokens."""
    measured = (names.GPU_USE, "DCGM_FI_DEV_GPU_UTIL", names.SERVER_UP)
    machines = " or ".join(f"count({selected(metric, where)})" for metric in measured)
    tokens = summed(f"rate({selected(names.TOKENS, where)}[1d]{past})")
    return f"avg_over_time(({machines})[1d:5m]{past}) / ({tokens} > 0)"


def _queue(where: str, by: By) -> str:
    return summed(selected(names.WAITING, where), by)


def _servers_down(where: str, by: By) -> str:
    """Those that are drained are not missed: they may be stopped."""
    down = f"max by (replica) ({selected(names.REPLICA_UP, where)}) == 0"
    drained = f"max by (replica) ({selected(names.REPLICA_DRAINED, where)}) == 1"
    return f"count(({down}) unless ({drained})) or vector(0)"


def _model_load(where: str, by: By) -> str:
    lately = f"time() - {selected(names.SERVER_STARTED, where)} < {STARTED_S:g}"
    return f"max({selected(names.SERVER_START, where)} and on (host, server) ({lately}))"


def _cache_use(where: str, by: By) -> str:
    return f"max({selected('vllm:kv_cache_usage_perc', where)})"


def _prefix_hits(where: str, by: By) -> str:
    every = rate("vllm:prefix_cache_queries_total", WINDOW, where)
    return f"{rate('vllm:prefix_cache_hits_total', WINDOW, where)} / {every}"


def _gpu_use(where: str, by: By) -> str:
    own, dcgm = selected(names.GPU_USE, where), selected("DCGM_FI_DEV_GPU_UTIL", where)
    return f"avg(avg_over_time({own}[{WINDOW}])) or avg(avg_over_time({dcgm}[{WINDOW}])) / 100"


def _gpu_memory(where: str, by: By) -> str:
    used, free = selected("DCGM_FI_DEV_FB_USED", where), selected("DCGM_FI_DEV_FB_FREE", where)
    return f"max({selected(names.GPU_MEMORY, where)}) or max({used} / ({used} + {free}))"


def _disk_free(where: str, by: By) -> str:
    real = 'fstype!~"tmpfs|overlay|squashfs|ramfs"'
    free, size = (selected(f"node_filesystem_{what}_bytes", where, real) for what in ("avail", "size"))
    return f"min({free} / {size})"


_SIGNALS: dict[str, Callable[[str, By], str]] = {
    "latency_p50_ms": _quantile(names.DURATION, 0.5), "latency_p95_ms": _quantile(names.DURATION, 0.95),
    "latency_p99_ms": _quantile(names.DURATION, 0.99), "latency_p95_vs_day_before": _latency_vs_day_before,
    "ttft_p95_ms": _quantile(names.TTFT, 0.95), "ttft_p99_ms": _quantile(names.TTFT, 0.99),
    "inter_token_p95_ms": _quantile(names.INTER_TOKEN, 0.95), "error_share": _error_share, "errors_per_s": _errors,
    "availability": _availability, "requests_per_s": _requests, "fallback_share": _fallback_share,
    "schema_valid_share": _schema_valid_share, "quality_vs_week_before": _quality_vs_week_before,
    "cost_per_token_vs_week_before": _cost_vs_week_before, "queue": _queue, "servers_down": _servers_down,
    "model_load_s": _model_load, "vllm_cache_use": _cache_use, "prefix_cache_hit_share": _prefix_hits,
    "gpu_use": _gpu_use, "gpu_memory_use": _gpu_memory, "disk_free_share": _disk_free,
}  # fmt: skip
