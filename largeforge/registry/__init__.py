"""The model registry: versions with verified files, aliases, and where each version came from.

Importing this is cheap; MLflow (more than a second) is imported when a registry is opened.
"""

from largeforge.registry.models import ModelRegistry
from largeforge.registry.records import GateResult, Lineage, ModelVersion, RegisteredModel, VersionSummary

__all__ = [
    "GateResult",
    "Lineage",
    "ModelRegistry",
    "ModelVersion",
    "RegisteredModel",
    "VersionSummary",
]
