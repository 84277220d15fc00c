"""OpenTelemetry traces of requests."""

from __future__ import annotations

from pydantic import Field

from largeforge.recipe.base import Strict


class Tracing(Strict):
    """Where traces of requests go; keys of the collector come from OpenTelemetry's own environment variables."""

    endpoint: str = Field(default="", pattern=r"^(https?://[^\s?#@]+)?$")
    """Base address of a collector that takes OTLP over HTTP, for example `http://127.0.0.1:4318`, for the gateway and
    the vLLM servers behind it; empty records nothing."""
    sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of the requests that are recorded, among those whose client has not decided it in `traceparent`."""

    @property
    def traces_url(self) -> str:
        """Where traces are posted to; empty where they are not."""
        return f"{self.endpoint.rstrip('/')}/v1/traces" if self.endpoint else ""
