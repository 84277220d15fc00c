"""Write JSON Schemas, with which an editor completes and checks recipes.

One file a group, and one for recipes. They know the choices under conf/, recipes/ and hosts/ of
the working directory too: run it again after adding one.

  python -m largeforge schema                     all of them, into schemas/
  python -m largeforge schema recipe method       only these
  python -m largeforge schema --vscode            and tell VS Code about them
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

_SETTINGS = Path(".vscode/settings.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "groups", nargs="*", metavar="GROUP", help="recipe, or a group of conf/; all when none is given"
    )
    parser.add_argument("--output", type=Path, default=Path("schemas"), metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--vscode", action="store_true", help="add them to .vscode/settings.json; nothing that is there is changed"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the schemas; raise RecipeError for a group that there is not."""
    from largeforge.artifacts import write_json
    from largeforge.errors import RecipeError, listed, nearest
    from largeforge.recipe.json_schema import schemas

    found = schemas()
    for name in arguments.groups:
        if name not in found:
            near = nearest(name, found)
            hint = f" Did you mean '{near}'?" if near else ""
            raise RecipeError(f"{name!r} is no group that has a schema; there is: {listed(found)}.{hint}")
    chosen = {name: found[name] for name in arguments.groups or found}
    settings = _settings(arguments.output, chosen) if arguments.vscode else ""
    for name, schema in chosen.items():
        write_json(_file(arguments.output, name), schema)
    print(f"wrote to {arguments.output}: {', '.join(_file(Path(), name).name for name in chosen)}")
    _explain(arguments.output, chosen)
    if settings:
        _write_settings(settings)
    return 0


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.schema.json"


def _explain(folder: Path, chosen: dict[str, Any]) -> None:
    print("\nFor editors with yaml-language-server, as a comment at the head of a file:")
    for name in list(chosen)[:2]:
        example = f"{_place(name)}/mine.yaml"
        relative = os.path.relpath(_file(folder, name), Path(example).parent)
        print(f"  {example + ':':<24} # yaml-language-server: $schema={Path(relative).as_posix()}")
    print("or for all files at once: --vscode, and docs/editors.md.")


def _place(name: str) -> str:
    """Return the folder of the files that a schema is for."""
    from largeforge.recipe.folders import GROUP_FOLDERS

    return GROUP_FOLDERS.get(name, f"conf/{name}")


def _settings(folder: Path, chosen: dict[str, Any]) -> str:
    """Return `.vscode/settings.json` with the schemas added, before anything is written."""
    from largeforge.errors import Problem, RecipeError
    from largeforge.scaffold.vscode import with_schemas

    relative = Path(os.path.relpath(folder, Path.cwd())).as_posix()
    prefix = relative if relative.startswith("../") else f"./{relative}"
    globs = {f"{prefix}/{name}.schema.json": f"{_place(name)}/**/*.yaml" for name in chosen}
    try:
        return with_schemas(_read(_SETTINGS), globs)
    except ValueError as error:
        wanted = json.dumps({"yaml.schemas": globs}, indent=4)[1:-1].rstrip()
        rule = f"cannot be added: {error}. Correct the file, or put this into it:\n{wanted}"
        raise RecipeError([Problem("yaml.schemas", rule, str(_SETTINGS))]) from None


def _read(file: Path) -> str:
    return file.read_bytes().decode() if file.exists() else ""  # bytes, so that line ends stay as they are


def _write_settings(text: str) -> None:
    from largeforge.artifacts import write_text

    if _read(_SETTINGS) == text:
        print(f"{_SETTINGS} has them already")
        return
    write_text(_SETTINGS, text)
    print(f"added to {_SETTINGS}")
