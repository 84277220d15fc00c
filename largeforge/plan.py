"""What a plan is: the stages of a recipe, what each reads and makes, and their identity. `planning/` makes one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.forecast.stage import Forecast
    from largeforge.hardware import Machine
    from largeforge.recipe.schema import Recipe


@dataclass(frozen=True)
class Stage:
    """One step of a plan, run in a process of its own."""

    name: str
    kind: str
    job: str
    title: str
    config: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    """Input name to the stage whose artifact it is."""
    after: tuple[str, ...] = ()
    """Further stages that must be finished first, although nothing is read from them."""
    threads: int = 0
    """Cores that the stage keeps busy; 0 for one so short that it need not wait for a free core."""
    uses: str = ""
    produces: str = ""
    launcher: dict[str, Any] | None = None
    models: tuple[str, ...] = ()
    """References of models from outside the run that it reads beside its base, such as a teacher."""
    reusable: bool = True
    """Whether an equal stage of another run may stand in for this one."""
    is_repeated: bool = False
    """Whether it is carried out again each time: what it is about lies outside of the run and may have changed."""
    fingerprint: str = ""

    @property
    def needs(self) -> list[str]:
        """Names of all stages that must be finished first."""
        return list(dict.fromkeys([*self.inputs.values(), *self.after]))


@dataclass(frozen=True)
class Plan:
    """All stages of a recipe in an order in which they can run."""

    recipe: Recipe
    stages: tuple[Stage, ...]
    lock: dict[str, Any]
    machine: Machine
    forecasts: Mapping[str, Forecast] = field(default_factory=dict)
    """What stages will need, by name; of a serving stage one for each server (`forecast.plan`)."""

    @property
    def digest(self) -> str:
        """Digest of the run's lock."""
        return str(self.lock["digest"])

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, for `plan.json`."""
        plain = (asdict(stage) for stage in self.stages)
        left_out = ("models", "is_repeated")
        stages = [{key: value for key, value in stage.items() if key not in left_out or value} for stage in plain]
        forecasts = {name: forecast.as_dict() for name, forecast in self.forecasts.items()}
        return {
            "recipe": self.recipe.name, "digest": self.digest, "machine": self.machine.as_dict(), "stages": stages,
            **({"forecasts": forecasts} if forecasts else {}),
        }  # fmt: skip
