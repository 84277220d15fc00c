"""What all exporters are asked: images, and room for a model server."""

from __future__ import annotations

from pydantic import Field

from largeforge.recipe.base import Extension


class Exporter(Extension):
    """The options that every form of files has."""

    folder: str = ""
    """Folder that the files are written to; empty is `exports/<recipe>/<name of the exporter>`."""
    vllm_image: str = ""
    """Image of the model servers; empty is upstream's of the vLLM that LargeForge is tested with, for the device."""
    gateway_image: str = ""
    """Image that has `largeforge[gateway,client]`; empty is one that the Containerfile among the files builds."""
    server_cpus: int = Field(default=4, gt=0)
    """CPU cores that a model server asks for."""
    memory_gib: float = Field(default=0, ge=0)
    """The host's memory that a model server asks for; 0 takes it from the estimate."""
