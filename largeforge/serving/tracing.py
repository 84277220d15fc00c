"""Whether an inference engine can send traces of its own, which join those of the gateway."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from largeforge.recipe.schema import Serving

NEEDED = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http", "opentelemetry.exporter.otlp.proto.grpc")
"""What vLLM imports before it traces (vllm/tracing/otel.py); without them it refuses to start."""
TIMEOUT_S = 60.0


def missing(serving: Serving) -> str:
    """Return why vLLM's interpreter cannot send traces, empty when it can."""
    python = serving.python or sys.executable
    try:
        argv = [python, "-c", f"import {', '.join(NEEDED)}"]
        tried = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{python} cannot be asked ({error})"
    if not tried.returncode:
        return ""
    said = tried.stderr.strip().splitlines()
    return f"{python}: {said[-1] if said else 'importing OpenTelemetry failed'}"
