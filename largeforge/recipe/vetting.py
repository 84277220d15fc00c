"""Look at a YAML file before Hydra does, and refuse whatever is more than plain data.

A recipe may come from a stranger. Hydra reads a section `hydra` as orders (callbacks, launchers,
search paths), OmegaConf resolves `${oc.env:…}`, and a few lines of aliases can expand to
gigabytes: none of that passes here, so that to compose and to plan a recipe is always safe.
Whether keys and values make sense is not judged here; `validate.py` does that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from largeforge.errors import Problem
from largeforge.recipe.places import short

MAX_BYTES = 2**20
MAX_NODES = 100_000
"""Keys and values of one file, each alias counted in full."""
MAX_DEPTH = 40
MAX_PROBLEMS = 100
MAX_NUMBER = 100
"""Characters of a value that is not text: YAML's longer numbers take time with the square of their length."""

INTERPOLATION = re.compile(r"[^$]*\$\{[\w.-]+\}[^$]*")
"""The one form that is allowed: a single reference to another key."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq", "merge")}
_TEXT_TAGS = {_TAG + name for name in ("str", "timestamp")}
_INSTANTIATION = {"_target_", "_args_", "_partial_", "_recursive_", "_convert_"}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_HEADER = re.compile(r"#\s*@package\s+(?P<package>\S+)\s*")
_PACKAGE = re.compile(r"[A-Za-z_]\w*(\.\w[\w-]*)*")
_ENTRY = re.compile(r"(?P<words>(?:(?:optional|override) +)*)(?P<group>/?\w[\w-]*(?:/\w[\w-]*)*)(?:@(?P<package>.*))?")
CHOICE = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*")
_PATH = re.compile(rf"(?:optional +)?/?{CHOICE.pattern}")


@dataclass(frozen=True)
class Choice:
    """An entry of a defaults list: this choice of that group."""

    group: str
    name: str
    where: str


@dataclass
class Vetted:
    """A file that was looked at; it may be used only when it has no problems."""

    text: str = ""
    package: str | None = None
    """The key below which Hydra puts the content, from the line `# @package …`."""
    choices: list[Choice] = field(default_factory=list)
    """Entries of the defaults list that choose in a group, those that are optional left out."""
    paths: list[Choice] = field(default_factory=list)
    """Entries of the defaults list that are a bare name, such as `- base` or `- /topology/big`."""
    optional: list[tuple[str, str]] = field(default_factory=list)
    """Entries of the defaults list that need not exist, with their place."""
    size: int = 0
    """Number of keys and values, each alias counted in full."""
    root: Any = None
    """The YAML nodes of the file, with their lines."""
    problems: list[Problem] = field(default_factory=list)


def vet(path: Path) -> Vetted:
    """Read a YAML file and return it with everything in it that is not plain data."""
    vetted = Vetted()
    try:
        vetted.text = _read(path)
        vetted.package = _package(vetted.text)
        vetted.size = _measure(vetted.text)
        vetted.root = yaml.compose(vetted.text, Loader=_LOADER)
        _Walk(path, vetted).start(vetted.root)
    except yaml.MarkedYAMLError as error:
        vetted.problems.append(_syntax_problem(error, path, vetted.text))
    except yaml.YAMLError as error:
        vetted.problems.append(Problem("YAML", f"{str(error).splitlines()[0]}.", short(path)))
    except _Refused as error:
        where = f"{short(path)}:{error.line}" if error.line else short(path)
        vetted.problems.append(Problem("YAML", f"{error}.", where))
    return vetted


class _Refused(Exception):
    """The file as a whole cannot be used."""

    def __init__(self, rule: str, line: int = 0):
        super().__init__(rule)
        self.line = line


def _read(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _Refused(f"the file has {size / 2**20:.1f} MiB; at most {MAX_BYTES // 2**20} MiB are read")
        content = path.read_bytes()
    except OSError as error:
        raise _Refused(f"cannot be read: {error.strerror or error}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Refused("not UTF-8 text", content.count(b"\n", 0, error.start) + 1) from None


def _package(text: str) -> str | None:
    """Return what a line `# @package …` among the first comments says; Hydra itself reads only such lines."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            break
        match = _HEADER.fullmatch(line)
        if match is None:
            continue
        if not _PACKAGE.fullmatch(match["package"]) or _names_hydra(match["package"]):
            raise _Refused(f"@package {match['package']} is not allowed; _global_ or a key such as jobs.a is", number)
        return match["package"]
    return None


def _measure(text: str) -> int:
    """Return the number of keys and values of a document, without building it.

    Refuses one that is nested too deeply, or that aliases make too large.
    """
    anchors: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    count = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                anchors[anchor] = count - before
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise _Refused(f"*{event.anchor} stands inside &{event.anchor} itself", event.start_mark.line + 1)
            count += anchors.get(event.anchor, 0)
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor:
                anchors[event.anchor] = 1
        else:
            continue
        count += 1
        if count > MAX_NODES or len(open_nodes) > MAX_DEPTH:
            what = f"nested deeper than {MAX_DEPTH} levels" if count <= MAX_NODES else f"more than {MAX_NODES} values"
            raise _Refused(f"{what}, aliases counted in full", event.start_mark.line + 1)
    return count


class _Walk:
    """Visit each node of a document once, aliases too."""

    def __init__(self, path: Path, vetted: Vetted):
        self.path, self.vetted = path, vetted
        self.seen: set[int] = set()

    def start(self, root: Any) -> None:
        if root is None:
            return
        if not isinstance(root, yaml.MappingNode):
            self._problem(root, "YAML", "the file must hold `key: value` lines.")
            return
        for key, value in root.value:
            if key.value == "hydra":
                self._problem(key, "hydra", "a recipe cannot configure Hydra: only the command line can.")
            elif key.tag == f"{_TAG}merge":
                self._problem(key, "<<", "is not allowed at the top level: write the keys out.")
            elif key.value == "defaults":
                self._defaults(value)
        self._node(root, ())

    def _problem(self, node: Any, key: str, rule: str, given: str = "") -> None:
        if len(self.vetted.problems) < MAX_PROBLEMS:
            self.vetted.problems.append(Problem(_printable(key), rule, self._where(node), given))

    def _where(self, node: Any) -> str:
        return f"{short(self.path)}:{node.start_mark.line + 1}"

    def _node(self, node: Any, path: tuple[str, ...]) -> None:
        if id(node) in self.seen:
            return
        self.seen.add(id(node))
        key = ".".join(path) or "YAML"
        if node.tag not in _PLAIN_TAGS:
            self._problem(node, key, "YAML tags are not allowed: a recipe is data.", _printable(node.tag))
        elif isinstance(node, yaml.MappingNode):
            self._mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._node(item, (*path, str(index)))
        else:
            self._scalar(node, key)

    def _mapping(self, node: Any, path: tuple[str, ...]) -> None:
        lines: dict[str, int] = {}
        for key, value in node.value:
            name = ".".join((*path, str(key.value) if isinstance(key, yaml.ScalarNode) else "?"))
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, name, "a key is a word, not a list or a section.")
            elif key.tag == f"{_TAG}merge":
                self._node(value, path)
                continue
            elif key.tag not in _TEXT_TAGS:
                self._problem(key, name, f"a key is text; put it in quotes: '{_printable(key.value)}'.")
            elif key.value in lines:
                self._problem(key, name, f"is given twice; first on line {lines[key.value]}.")
            elif key.value in _INSTANTIATION:
                self._problem(key, name, "is not allowed: a recipe is data and cannot name code.")
            elif _CONTROL.search(key.value):
                self._problem(key, name, "holds a control character.")
            lines.setdefault(str(key.value), key.start_mark.line + 1)
            self._node(value, (*path, str(key.value)))

    def _scalar(self, node: Any, key: str) -> None:
        if node.tag not in _TEXT_TAGS and len(node.value) > MAX_NUMBER:
            rule = f"a number has at most {MAX_NUMBER} characters; text that looks like one is put in quotes."
            self._problem(node, key, rule, _printable(node.value))
        if "${" in node.value and not INTERPOLATION.fullmatch(node.value):
            rule = "only one plain reference to another key is allowed, such as ${name}: a recipe is data."
            self._problem(node, key, rule, _printable(node.value))
        if _CONTROL.search(node.value):
            self._problem(node, key, "holds a control character.", _printable(node.value))

    def _defaults(self, node: Any) -> None:
        if not isinstance(node, yaml.SequenceNode):
            self._problem(node, "defaults", "must be a list of choices, such as `- /method: sft`.")
            return
        for item in node.value:
            if isinstance(item, yaml.MappingNode) and len(item.value) == 1:
                self._entry(item.value[0][0], item.value[0][1])
            elif not isinstance(item, yaml.ScalarNode) or not _PATH.fullmatch(item.value):
                self._problem(item, "defaults", "each entry is one choice, such as `- /method: sft`.")
            elif _names_hydra(item.value):
                self._problem(item, "defaults", "a recipe cannot configure Hydra: only the command line can.")
            elif item.value.startswith("optional "):
                self.vetted.optional.append((item.value, self._where(item)))
            elif item.value != "_self_":
                self.vetted.paths.append(Choice("", item.value, self._where(item)))

    def _entry(self, key: Any, value: Any) -> None:
        match = _ENTRY.fullmatch(key.value) if isinstance(key, yaml.ScalarNode) else None
        package = match["package"] if match else None
        if match is None or (package is not None and not _PACKAGE.fullmatch(package)):
            rule = "an entry is `- /group: choice` or `- /group@key: choice`."
            self._problem(key, "defaults", rule, _printable(str(key.value)))
            return
        if _names_hydra(key.value):
            self._problem(key, "defaults", "a recipe cannot configure Hydra: only the command line can.", key.value)
            return
        names = value.value if isinstance(value, yaml.SequenceNode) else [value]
        for name in names:
            self._choice(match, name)

    def _choice(self, match: re.Match[str], name: Any) -> None:
        if isinstance(name, yaml.ScalarNode) and name.tag == f"{_TAG}null":
            return
        if not isinstance(name, yaml.ScalarNode) or not CHOICE.fullmatch(name.value):
            rule = "a choice is the name of a file without .yaml, and cannot be computed."
            self._problem(name, f"defaults {match['group']}", rule, _printable(str(getattr(name, "value", ""))))
        elif "optional" in match["words"]:
            self.vetted.optional.append((name.value, self._where(name)))
        else:
            self.vetted.choices.append(Choice(match["group"], name.value, self._where(name)))


def _names_hydra(text: str) -> bool:
    return "hydra" in re.split(r"[^\w-]", text)


def _printable(text: str) -> str:
    shown: str = ascii(text) if _CONTROL.search(text) else text
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _syntax_problem(error: yaml.MarkedYAMLError, path: Path, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Problem("YAML", f"not valid YAML: {error.problem or error.context}.", short(path))
    where = f"{short(path)}:{mark.line + 1}"
    line = next(iter(text.splitlines()[mark.line : mark.line + 1]), "")
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return Problem("YAML", "tabs cannot indent YAML; use spaces.", where)
    return Problem("YAML", f"not valid YAML: {error.problem or error.context}.", where)
