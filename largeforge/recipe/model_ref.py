"""Model references: the one parser of `hub:`, `path:`, `run:`, `registry:`, `tiny:` and `job:`.

hub:Qwen/Qwen2.5-7B-Instruct@<revision>   a repository on the model hub
path:/models/my-model                     a folder on this machine
run:<run folder>/<stage>                  what a stage of an earlier run made
registry:support-bot@champion             a registered model by alias, or
registry:support-bot/7                    by version
tiny:<label>                              random weights from the model's `architecture`
job:general  or  job:mapper/merge         what another job of the same recipe makes
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SCHEMES = ("hub", "path", "run", "registry", "tiny", "job")

_PATTERNS = {
    "hub": re.compile(r"(?P<target>[\w.-]+(/[\w.-]+)?)(@(?P<selector>[\w./-]+))?"),
    "path": re.compile(r"(?P<target>.+)(?P<selector>)"),
    "run": re.compile(r"(?P<target>.+)/(?P<selector>[\w.-]+)"),
    "registry": re.compile(r"(?P<target>[\w.-]+)((?P<sep>[@/])(?P<selector>[\w.-]+))?"),
    "tiny": re.compile(r"(?P<target>[\w.-]+)(?P<selector>)"),
    "job": re.compile(r"(?P<target>[\w-]+)(/(?P<selector>train|merge|quantize))?"),
}

_EXAMPLES = {
    "hub": "hub:Qwen/Qwen2.5-7B-Instruct@main",
    "path": "path:/models/my-model",
    "run": "run:runs/quickstart/20260101T120000-ab12cd34/general.train",
    "registry": "registry:support-bot@champion or registry:support-bot/7",
    "tiny": "tiny:general",
    "job": "job:general or job:mapper/merge",
}


@dataclass(frozen=True)
class ModelRef:
    """A parsed reference; `selector` is a revision, stage, alias or version, by scheme."""

    scheme: str
    target: str
    selector: str = ""
    is_version: bool = False

    def __str__(self) -> str:
        if not self.selector:
            return f"{self.scheme}:{self.target}"
        separator = "@" if self.scheme == "hub" or (self.scheme == "registry" and not self.is_version) else "/"
        return f"{self.scheme}:{self.target}{separator}{self.selector}"


def parse(text: str) -> ModelRef:
    """Parse a model reference.

    Raises ValueError with the rule and an example when it is malformed.
    """
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in SCHEMES:
        raise ValueError(f"a model reference begins with one of {', '.join(s + ':' for s in SCHEMES)}")
    match = _PATTERNS[scheme].fullmatch(rest)
    if match is None:
        raise ValueError(f"malformed {scheme}: reference; for example {_EXAMPLES[scheme]}")
    selector = match.groupdict().get("selector") or ""
    is_version = scheme == "registry" and match.groupdict().get("sep") == "/"
    if is_version and not selector.isdigit():
        raise ValueError(f"a registry version is a number; for example {_EXAMPLES['registry']}")
    return ModelRef(scheme, match["target"], selector, is_version)
