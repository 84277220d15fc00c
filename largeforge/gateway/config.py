"""The file that a gateway process is started with: the recipe's sections plus where each expert listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from largeforge.errors import Problem, RecipeError, nearest
from largeforge.gateway.request import AUTO
from largeforge.recipe import routing_checks, task_checks
from largeforge.recipe.base import Name, Strict
from largeforge.recipe.schema import Gateway, Topology

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.recipe.base import Extension as Router
else:
    from largeforge.recipe.schema import Router


class Upstream(Strict):
    """One expert's server."""

    url: str = Field(pattern=r"^https?://[^\s/?#@]+/?$")
    """Base address of the OpenAI-compatible server, without `/v1`."""
    served_model: str = Field(min_length=1)
    """Name under which that server knows the model; experts may share a server and differ in it."""
    model: str = Field(min_length=1)
    """Model reference, shown in `x-largeforge-model`."""
    lock: str = ""
    """Digest of what is served, shown in `x-largeforge-lock`."""
    limit: int = Field(default=0, ge=0)
    """Requests that the server takes at once (vLLM's `max_num_seqs`), 0 for any number; the others wait in the
    gateway."""
    arm: Literal["stable", "canary"] = "stable"
    """Whether it is a server of the model that answers, or of one that is to take over and gets a share of requests."""
    chat_template: str = ""
    """sha256 of the chat template that conversations are written with, shown in the list of models."""

    @field_validator("url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        return url.rstrip("/")


def _listed(given: Any) -> Any:
    return given if isinstance(given, list) else [given]


class GatewayFile(Strict):
    """Everything that a gateway process needs to know."""

    gateway: Gateway = Gateway()
    router: Router
    topology: Topology
    upstreams: dict[Name, Annotated[list[Upstream], BeforeValidator(_listed), Field(min_length=1)]]
    """Servers of each expert, by the expert's name: one, or a list of replicas."""

    @model_validator(mode="after")
    def _experts_have_upstreams(self) -> GatewayFile:
        experts = self.topology.experts
        if AUTO in experts:
            raise ValueError(f"no expert can be called '{AUTO}': that name asks the router to choose")
        if self.topology.fallback not in experts:
            raise ValueError(f"topology.fallback: '{self.topology.fallback}' is none of: {', '.join(experts)}")
        if missing := experts.keys() - self.upstreams.keys():
            raise ValueError(f"upstreams: no server for {', '.join(sorted(missing))}")
        for name, servers in self.upstreams.items():
            if all(server.arm == "canary" for server in servers):
                raise ValueError(f"upstreams.{name}: a canary alone; it takes a share of what a stable server answers")
        for name, expert in experts.items():
            for other in expert.fallback or ():
                if other not in experts or other == name:
                    raise ValueError(f"topology.experts.{name}.fallback: '{other}' is none of the other experts")
        for problem in (
            *task_checks.check(self.topology),
            *routing_checks.of_topology(self.topology, self.router),
            *routing_checks.of_judge(self.topology, self.gateway),
        ):
            raise ValueError(f"{problem.key}: {problem.rule}")
        if extra := self.upstreams.keys() - experts.keys():
            raise ValueError(f"upstreams: {', '.join(sorted(extra))} not in topology.experts")
        return self


def read(path: Path) -> GatewayFile:
    """Read and validate a gateway file.

    Raises RecipeError with everything that is wrong with it.
    """
    try:
        return GatewayFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RecipeError([Problem("--config", f"cannot be read: {error.strerror}", given=str(path))]) from error
    except ValidationError as error:
        raise RecipeError(problems(error, where=str(path))) from None


def problems(error: ValidationError, *, where: str = "") -> list[Problem]:
    """Return what is wrong with a gateway file."""
    return [_problem(details, where) for details in error.errors(include_url=False)]


def _problem(details: Any, where: str) -> Problem:
    place = [str(part) for part in details["loc"]]
    hint = nearest(place[-1], GatewayFile.model_fields) if details["type"] == "extra_forbidden" else ""
    if details["type"] == "union_tag_invalid":
        place.append("name")
    return Problem(".".join(place) or "file", details["msg"], where=where, nearest=hint)
