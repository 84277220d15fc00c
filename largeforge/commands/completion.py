"""Print a script with which bash completes commands, recipes, choices, keys and values.

For this shell, or in ~/.bashrc for all:

  eval "$(python -m largeforge completion bash)"

It completes `largeforge …` and `python -m largeforge …`. Where there is nothing to propose, files are.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BASH = r"""
_largeforge() {
    local -a words call
    read -ra words <<< "${COMP_LINE:0:COMP_POINT}"
    [[ "${COMP_LINE:0:COMP_POINT}" == *[[:space:]] ]] && words+=("")
    if [[ "${words[0]##*/}" == python* ]]; then
        [[ "${words[1]} ${words[2]}" == "-m largeforge" && ${#words[@]} -gt 3 ]] || return
        call=("${words[@]:0:3}") words=("${words[@]:3}")
    else
        call=("${words[0]}") words=("${words[@]:1}")
    fi
    local current="${words[-1]}" found
    local typed="${current%"${current##*[=:@]}"}"  # bash takes = : @ for ends of words
    mapfile -t found < <("${call[@]}" completion bash --words "${words[@]}" 2>/dev/null)
    COMPREPLY=("${found[@]#"$typed"}")
    [[ "${found[0]}" == *[=.] ]] && compopt -o nospace
    return 0
}
complete -o default -F _largeforge largeforge
complete -p python &>/dev/null || complete -o default -F _largeforge python python3
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("shell", choices=["bash"], help="the shell that reads the script")
    parser.add_argument(
        "--words", nargs=argparse.REMAINDER, metavar="WORD",
        help="print what the last of these words can become, one a line; the script calls this",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Print the script, or the proposals."""
    if arguments.words is None:
        print(_BASH.strip())
        return 0
    *before, current = arguments.words or [""]
    found = sorted({word for word in _proposals(before, current) if word.startswith(current)})
    print("\n".join(found))
    return 0


def _proposals(before: list[str], current: str) -> Iterator[str]:
    from largeforge.recipe import folders, sources

    if before and before[0] in folders.commands():
        yield from _options(before[0])
        return
    key, equals, _ = current.partition("=")
    sign = key[: len(key) - len(key.lstrip("+~"))]
    group = key.removeprefix(sign).partition("@")[0]
    if equals and group in sources.groups():
        yield from (f"{key}={name}" for name in sources.choices(group))
    elif equals:
        yield from (f"{key}={value}" for value in _values(key.removeprefix(sign)))
    else:
        if not before:
            yield from folders.commands()
        if not any(word.lstrip("+").startswith("recipe=") for word in before):
            yield "+recipe="
        yield from (f"{sign}{group}=" for group in sources.groups() if group != "recipe")
        yield from _keys(key.removeprefix(sign), sign)


def _options(command: str) -> Iterator[str]:
    """Yield the options of a command, and the words that its arguments may be."""
    from importlib import import_module

    parser = argparse.ArgumentParser()
    import_module(f"largeforge.commands.{command.replace('-', '_')}").add_arguments(parser)
    for action in parser._actions:
        yield from action.option_strings or map(str, action.choices or ())


def _keys(typed: str, sign: str) -> Iterator[str]:
    """Yield the keys of the section that the typed key is in: `method.` has `method.learning_rate=`."""
    from largeforge.recipe.json_schema import schemas

    schema = schemas()["recipe"]
    section = typed.rpartition(".")[0]
    prefix = f"{sign}{section}." if section else sign
    for node in _at(schema, section):
        for name, inner in node.get("properties", {}).items():
            has_keys = any(n.get("type") == "object" for n in _meanings(schema, inner))
            if name != "defaults":
                yield f"{prefix}{name}{'.' if has_keys else '='}"


def _values(key: str) -> Iterator[str]:
    """Yield the values of a key that has only a few."""
    from largeforge.recipe.json_schema import schemas

    for node in _at(schemas()["recipe"], key):
        yield from (str(value) for value in node.get("enum", [node["const"]] if "const" in node else []))
        if "boolean" in node.get("type", ""):
            yield from ("true", "false")


def _at(schema: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Return all that the schema says of a dotted key; a name that a user chose stands for any."""
    nodes = [schema]
    for part in filter(None, key.split(".")):
        inner = [found for node in nodes for found in _inner(node, part)]
        nodes = [meaning for found in inner for meaning in _meanings(schema, found)]
    return nodes


def _inner(node: dict[str, Any], part: str) -> Iterable[dict[str, Any]]:
    if part in node.get("properties", {}):
        return [node["properties"][part]]
    others = [*node.get("patternProperties", {}).values(), node.get("additionalProperties")]
    return [other for other in others if isinstance(other, dict)]


def _meanings(schema: dict[str, Any], node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a node, or each of its alternatives."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
    if "anyOf" not in node:
        yield node
    for option in node.get("anyOf", []):
        yield from _meanings(schema, option)
