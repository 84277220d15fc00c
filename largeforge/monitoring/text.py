"""YAML as other programs and people read it: in the order given, and every part where it stands."""

from __future__ import annotations

from typing import Any


def as_yaml(content: Any) -> str:
    """Return YAML without anchors: what is in two places is written in both."""
    import yaml

    class Plain(yaml.SafeDumper):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True

    text: str = yaml.dump(content, Dumper=Plain, sort_keys=False, allow_unicode=True, width=120)
    return text
