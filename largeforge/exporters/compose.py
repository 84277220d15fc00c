"""The topology as a Compose file, for Docker or Podman on one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from largeforge.exporters._exporter import Exporter

if TYPE_CHECKING:
    from largeforge.exporting.rendered import Rendered
    from largeforge.exporting.system import System

OWN_GPUS = False
"""Servers share the GPUs of one machine where there are too few."""


class Config(Exporter):
    """A Compose file with the gateway's file."""

    name: Literal["compose"] = "compose"
    models_folder: str = ""
    """Folder of this machine with the files of models that are on no hub, one folder for each expert."""


def render(config: Config, system: System) -> Rendered:
    """Return the files."""
    from largeforge.exporting import compose

    return compose.render(config, system)
