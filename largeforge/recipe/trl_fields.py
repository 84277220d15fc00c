"""Fields of trl's configs, read from the installed source: nothing of trl or torch is imported.

A method module names its class, for example `TRL_CONFIG = "trl.trainer.dpo_config:DPOConfig"`. Its fields are
those of the dataclass and of the classes it inherits from, in trl and transformers (about 15 ms).
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_SHORTCUTS = {("transformers", "TrainingArguments"): "transformers.training_args"}
"""Names that a package offers at its top, and the module that defines them."""


@dataclass(frozen=True)
class TrlField:
    """One field of a config: what it is called and what it takes."""

    name: str
    annotation: str
    """Type as the source has it, such as `float | None`."""
    choices: tuple[str, ...] = ()
    """Values that its metadata allows; empty for any."""

    def accepts(self, value: Any) -> bool:
        """Tell whether a plain value (of YAML) has this type; types that are not plain take text."""
        return _accepts(ast.parse(self.annotation, mode="eval").body, value)

    @property
    def described(self) -> str:
        """What it takes, in a recipe author's words."""
        return self.annotation.replace(" | ", " or ").replace("None", "null")


@cache
def fields(config: str) -> dict[str, TrlField] | None:
    """Return the fields of a config class, `module:Class`, by name; None where its package is not installed.

    Raises LookupError when the package is there and the class is not.
    """
    module, _, name = config.partition(":")
    return _of_class(module, name) if _source(module.partition(".")[0]) else None


def _of_class(module: str, name: str) -> dict[str, TrlField]:
    path = _source(module)
    if path is None:
        raise LookupError(f"there is no module {module}")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if found is None:
        raise LookupError(f"module {module} has no class {name}")
    imported = _imports(tree, module)
    inherited: dict[str, TrlField] = {}
    for base in reversed(found.bases):
        if isinstance(base, ast.Name):
            inherited |= _of_class(imported.get(base.id, module), base.id)
    return inherited | {field.name: field for node in found.body if (field := _field(node)) is not None}


def _source(module: str) -> Path | None:
    """Return the file of a module; only its top package is looked up, and that is not imported."""
    package, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin:
        return None
    folder = Path(spec.origin).parent.joinpath(*rest)
    return next((path for path in (folder / "__init__.py", folder.with_suffix(".py")) if path.is_file()), None)


def _imports(tree: ast.Module, module: str) -> dict[str, str]:
    """Return, for each name that a module imports, the module that has it."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                found[alias.asname or alias.name] = _SHORTCUTS.get((origin, alias.name), origin)
    return found


def _field(node: ast.stmt) -> TrlField | None:
    if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
        return None
    annotation = ast.unparse(node.annotation)
    if annotation.startswith("ClassVar"):
        return None
    init = _keyword(node.value, "init")
    if isinstance(init, ast.Constant) and init.value is False:
        return None
    return TrlField(node.target.id, annotation, _choices(_keyword(node.value, "metadata")))


def _keyword(call: ast.expr | None, name: str) -> ast.expr | None:
    keywords = call.keywords if isinstance(call, ast.Call) else []
    return next((keyword.value for keyword in keywords if keyword.arg == name), None)


def _choices(metadata: ast.expr | None) -> tuple[str, ...]:
    if not isinstance(metadata, ast.Dict):
        return ()
    for key, value in zip(metadata.keys, metadata.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == "choices" and isinstance(value, ast.List | ast.Tuple):
            return tuple(str(item.value) for item in value.elts if isinstance(item, ast.Constant))
    return ()


def _accepts(node: ast.expr, value: Any) -> bool:
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _accepts(left, value) or _accepts(right, value)
        case ast.Constant(value=None):
            return value is None
        case ast.Constant(value=str(forward)):
            return _accepts(ast.parse(forward, mode="eval").body, value)
        case ast.Name(id=name):
            return _is_plain(name, value)
        case ast.Subscript(value=ast.Name(id=name), slice=inside):
            return _is_generic(name, inside, value)
    return isinstance(value, str)


def _is_plain(name: str, value: Any) -> bool:
    if name == "Any":
        return True
    if isinstance(value, bool) or name == "bool":
        return isinstance(value, bool) and name == "bool"
    types: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float), "list": list, "dict": dict}
    return isinstance(value, types.get(name, str))


def _is_generic(name: str, inside: ast.expr, value: Any) -> bool:
    parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if name == "Optional":
        return value is None or _accepts(inside, value)
    if name == "Union":
        return any(_accepts(part, value) for part in parts)
    if name == "Literal":
        return any(isinstance(p, ast.Constant) and p.value == value and type(p.value) is type(value) for p in parts)
    if name == "list":
        return isinstance(value, list) and all(_accepts(inside, item) for item in value)
    if name == "dict":
        return isinstance(value, dict) and all(_accepts(parts[-1], item) for item in value.values())
    return isinstance(value, str)
