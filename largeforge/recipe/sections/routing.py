"""How traffic is divided among experts beside what routers choose, and how routing is trained and judged."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, WithJsonSchema, model_validator

from largeforge.recipe.base import Name, Strict
from largeforge.recipe.sections.judging import Condition

_SHARE_SCHEMA: dict[str, Any] = {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "boolean"}]}
Share = Annotated[float, Field(ge=0, le=1), WithJsonSchema(_SHARE_SCHEMA)]
"""0 is nobody and off, 1 is everybody and on; YAML's `true` and `false` mean the same."""
Sticky = Literal["user", "session", "tenant", "request"]
"""Who always gets the same share: the field `user` of the body, the header x-largeforge-session, the header
x-largeforge-tenant, or nobody. A user that is not named is told by the session, and the other way round."""
Files = str | list[str] | dict[Name, str | list[str]]
"""JSONL files of requests: with `expert` in each row, or by the expert that all rows of a file belong to."""


class Flag(Strict):
    """A named switch that rules can ask for; written as true, false or a share where nobody is singled out."""

    share: Share = 0.0
    """Share for whom it is on; the same ones every time."""
    tenants: dict[str, Share] = {}
    """Share by tenant, in place of the share above: true or 1 is on for the tenant, false or 0 is off."""
    users: dict[str, Share] = {}
    """On or off for single users, before anything else."""

    @model_validator(mode="before")
    @classmethod
    def _from_share(cls, value: Any) -> Any:
        return {"share": value} if isinstance(value, bool | int | float) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [handler(core), *_SHARE_SCHEMA["anyOf"]]}


class Shadow(Strict):
    """Another expert that is asked the same, and whose answer is thrown away."""

    expert: Name
    """Expert that is also asked."""
    share: Share = 1.0
    """Share of the requests that it is asked, too."""


class Routing(Strict):
    """What routers are trained on, and what routing must show before anything is served."""

    path: Files = []
    """Requests that routers learn from, each with the expert that it belongs to."""
    heldout_path: Files = []
    """Requests that routing is judged by."""
    gates: dict[str, Condition] = {}
    """Metric to condition: `accuracy`, `decided`, `recall.<expert>`, `precision.<expert>`."""
    by: Literal["interval", "value"] = "interval"
    """What must meet a gate's condition: the whole interval of the metric, or only its value."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence of intervals."""
