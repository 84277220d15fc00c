"""How the gateway judges answers beside the traffic."""

from __future__ import annotations

from pydantic import Field, model_validator

from largeforge.recipe.base import Strict


class OnlineJudge(Strict):
    """A model that is asked whether sampled answers are good; nobody is asked unless `share` says so."""

    share: float = Field(default=0.0, ge=0, le=1)
    """Share of the answers that it is asked about; each costs one request to it."""
    expert: str = ""
    """Expert of the topology that judges; it should not be one of those that are judged."""
    url: str = Field(default="", pattern=r"^(https?://[^\s/?#@]+/?)?$")
    """Base address of another OpenAI-compatible server that judges, without `/v1`. It gets what users write, and the
    answers."""
    model: str = ""
    """Name under which the server at `url` knows the judge."""
    api_key_env: str = Field(default="", pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")
    """Variable of the gateway's environment that holds the key of the server at `url`; empty for one without."""
    instructions: str = ""
    """What it is told; its reply must be `{"verdict": "good"}` or `{"verdict": "bad"}`. Empty: to judge whether
    the answer does what the user asked, correctly, completely and clearly."""
    timeout_s: float = Field(default=60.0, gt=0)
    """Longest wait for a verdict."""

    @model_validator(mode="after")
    def _has_somebody(self) -> OnlineJudge:
        if self.share and bool(self.expert) == bool(self.url):
            raise ValueError("asks a judge for a share of the answers: say who, by either expert or url")
        if self.url and not self.model:
            raise ValueError("model is required with url: the name under which that server knows the judge")
        return self


class Quality(Strict):
    """How answers are judged after they were sent, while the gateway's mode is `normal`; counted in
    `largeforge_gateway_quality_total`."""

    schema_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the answers to requests with a `response_format` of JSON that are checked: whether they are JSON, and
    valid under the schema where there is one."""
    agreement_f1: float = Field(default=0.8, gt=0, le=1)
    """How alike the answers of an expert and of its shadow must be to agree: the F1 of their words. Equal texts, but
    for white space, and equal JSON always agree; different JSON never does. 1 demands the same words."""
    judge: OnlineJudge = OnlineJudge()
    """A judge of sampled answers."""
