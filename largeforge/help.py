"""The text of `--help`: Hydra's own, from the same template, without composing everything to print it.

Hydra reads its whole search path and composes the defaults for this; only the template and the
names of files are needed.
"""

from __future__ import annotations

import string

import yaml

from largeforge.recipe import folders, sources
from largeforge.recipe.packs import installed

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def text() -> str:
    """Return the help of `conf/config.yaml` with the choices of every group, the working directory's included."""
    config = (folders.shipped_root() / "conf" / "config.yaml").read_text(encoding="utf-8")
    template = yaml.load(config, Loader=_LOADER)["hydra"]["help"]["template"]
    return string.Template(template).substitute(APP_CONFIG_GROUPS="".join(_lines()))


def _lines() -> list[str]:
    """Return one line a group; what stands in a folder of a group is a group of its own, except with recipes."""
    found = []
    for group in sources.groups():
        in_folders = group in folders.GROUP_FOLDERS
        names = [n for n in sources.choices(group) if in_folders or "/" not in n or installed.of_choice(n)]
        found += [f"{group}: {', '.join(names)}\n"] if names else []
    return found
