"""Names that DNS and Kubernetes take, from names of recipes, which may have underscores."""

from __future__ import annotations

import hashlib
import re

PREFIX = "vllm-"
"""Before an expert's name: a Service begins with a letter, and no expert can take the name of something else."""
MOST_CHARS = 48
"""Longest name of a server: Kubernetes makes labels of at most 63 characters from the name of a StatefulSet and a hash
of 10, and replicas have a number."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def server(expert: str) -> str:
    """Return the name of an expert's server.

    A name that had to be changed carries a hash of what it was, so that it says the same whatever other experts there
    are, and two experts never share one. Raises ValueError with the rule when it would be too long.
    """
    name = PREFIX + expert
    if not _LABEL.fullmatch(expert):
        digest = hashlib.sha256(expert.encode()).hexdigest()[:6]
        name = f"{PREFIX}{expert.replace('_', '-').strip('-')}-{digest}"
    if len(name) > MOST_CHARS:
        most = len(expert) - (len(name) - MOST_CHARS)
        raise ValueError(f"its server would be called '{name}', and names have at most {MOST_CHARS} characters; "
                         f"give it a name of at most {most}")  # fmt: skip
    return name


def label(name: str) -> str:
    """Return a recipe's name as a DNS label.

    Raises ValueError with the rule when it would be too long.
    """
    found = name.replace("_", "-").strip("-")
    if len(found) > 63:
        raise ValueError("a DNS label has at most 63 characters")
    return found
