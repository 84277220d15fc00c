"""The base of every configuration model: frozen, and unknown keys are errors."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from largeforge.recipe import field_docs

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
