"""The base of every configuration model: frozen, and unknown keys are errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WrapValidator

from largeforge.recipe import field_docs

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, ValidatorFunctionWrapHandler

field_docs.speed_up()


NAME_PATTERN = "^[a-z0-9][a-z0-9_-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
RegistryAlias = Annotated[str, Field(pattern=r"^\w[\w-]*$")]
Port = Annotated[int, Field(ge=0, le=65535)]


class Strict(BaseModel):
    """A section of a recipe."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True, allow_inf_nan=False
    )


class Extension(Strict):
    """The `Config` of an extension module; `name` is the module's own name.

    A subclass narrows `name` to a literal, for example `name: Literal["sft"] = "sft"`.
    """

    name: str


@dataclass(frozen=True)
class AsGiven:
    """Annotate a mapping that must be right for a model and stays as it was written: what it leaves out is not filled
    in with the model's defaults, so it can be laid over other settings."""

    model: type[Strict]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        """Return the model's own schema, so that problems have the places that they have in the model."""
        return handler.generate_schema(Annotated[self.model, WrapValidator(_held_against), PlainSerializer(dict)])


def _held_against(given: Any, is_right: ValidatorFunctionWrapHandler) -> Any:
    is_right(given)
    return given
