"""Metrics by name, and writing PromQL."""

from __future__ import annotations

GATEWAY = "largeforge_gateway"
REQUESTS = f"{GATEWAY}_requests_total"
DURATION = f"{GATEWAY}_request_duration_seconds"
TTFT = f"{GATEWAY}_time_to_first_token_seconds"
INTER_TOKEN = f"{GATEWAY}_inter_token_latency_seconds"
FALLBACKS = f"{GATEWAY}_fallbacks_total"
QUALITY = f"{GATEWAY}_quality_total"
"""Judgements of answers: labels `expert`, `model`, `signal` (`schema_valid`, `thumbs`, `judge`, `agreement`), `good`
(`true`, `false`)."""
WAITING = f"{GATEWAY}_requests_waiting"
OUTSTANDING = f"{GATEWAY}_server_outstanding_requests"
REPLICA_UP = f"{GATEWAY}_replica_up"
REPLICA_DRAINED = f"{GATEWAY}_replica_drained"
GPU_USE, GPU_MEMORY = "largeforge_gpu_use_ratio", "largeforge_gpu_memory_use_ratio"
GPU_POWER, GPU_TEMPERATURE = "largeforge_gpu_power_watts", "largeforge_gpu_temperature_celsius"
"""Written for the node exporter by hosts with a GPU, from nvidia-smi."""
SERVER_UP = "largeforge_server_up"
"""Whether a model server of a host tells what it measures: label `server`."""
SERVER_START, SERVER_STARTED = "largeforge_server_start_seconds", "largeforge_server_started_timestamp_seconds"
"""How long a model server of a host took to serve its models when it started last, and when that was."""
TOKENS = f"{GATEWAY}_tokens_total"
ERRORS = f"{GATEWAY}_errors_total"
ROLLOUT_SHARE, ROLLOUT_PHASE = f"{GATEWAY}_rollout_share", f"{GATEWAY}_rollout_phase"
ROLLOUT_CHANGED, ROLLOUT_SEEN = (
    f"{GATEWAY}_rollout_changed_timestamp_seconds", f"{GATEWAY}_rollout_seen_timestamp_seconds",
)  # fmt: skip
"""When a rollout came to its phase (labels `expert`, `phase`), and when a controller looked at it last."""
CANARY_GUARDED = f"{GATEWAY}_canary_guarded"
"""1 where a gateway itself took a canary out."""
ARM_REQUESTS, ARM_ERRORS = f"{GATEWAY}_arm_requests_total", f"{GATEWAY}_arm_errors_total"
"""Requests of experts with a canary, by `arm`: `canary` or `stable`."""

FAILED = 'status=~"5.."'
VALID = 'status!~"4.."'
"""Requests that the deployment should have answered well: not the mistakes of clients, nor clients that left."""


def selected(metric: str, *matchers: str) -> str:
    """Return a selector; empty matchers are left out."""
    given = ",".join(matcher for matcher in matchers if matcher)
    return f"{metric}{{{given}}}" if given else metric


def equals(label: str, value: str) -> str:
    """Return a matcher."""
    return f'{label}="{value}"'


def rate(metric: str, window: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return the events per second over a window, of all processes together or by some labels."""
    return summed(f"rate({selected(metric, *matchers)}[{window}])", by)


def summed(expression: str, by: tuple[str, ...] = ()) -> str:
    """Return a sum over everything but some labels."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def or_zero(expression: str, like: str) -> str:
    """Return an expression that is 0 where there is nothing yet, for the same labels as another."""
    return f"({expression} or 0 * {like})"


def duration(seconds: float) -> str:
    """Return a time as PromQL writes it: in the largest unit that divides it."""
    whole = round(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole and whole % size == 0:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def bound(threshold_ms: float) -> str:
    """Return the bound of a histogram's bucket as the gateway's `le` label has it."""
    return repr(threshold_ms / 1000)
