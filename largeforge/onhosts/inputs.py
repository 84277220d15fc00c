"""What a stage reads from this machine, by the digest of its content, and the stage as the host sees it.

A value of the stage's config is taken for something to bring when it is an absolute path that exists here, or a
reference to a model that this machine resolves (`path:`, `run:`, `registry:`). Those to the hub are left to the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.deploy.content import Content, files_of
from largeforge.recipe import model_ref

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RESOLVED = ("path", "run", "registry")
"""Schemes of references to models whose files are on this machine."""
LEFT = ("python", "uri", "artifacts")
"""Keys of a config that name places of this machine which no stage reads on a host."""


@dataclass(frozen=True)
class Input(Content):
    """A folder, or one file, that a stage reads."""

    def at(self, home: str) -> str:
        """Return where it is on a host."""
        folder = f"{home}/inputs/{self.key}"
        return folder if self.path.is_dir() else f"{folder}/{self.path.name}"


@dataclass(frozen=True)
class Bundle:
    """All that a stage reads, and what stood in its config."""

    by_path: dict[str, Input]
    """By the path, as the stage's file has it."""
    references: dict[str, str]
    """Reference of a model to the folder with its files."""

    @property
    def inputs(self) -> dict[str, Input]:
        """Each input once, by its key."""
        return {one.key: one for one in self.by_path.values()}

    def stage(self, spec: Mapping[str, Any], home: str, folder: str) -> dict[str, Any]:
        """Return the stage's file as a host needs it."""

        def there(text: str) -> str:
            if text in self.references:
                return f"path:{self.by_path[self.references[text]].at(home)}"
            return self.by_path[text].at(home) if text in self.by_path else text

        config = _mapped(spec["config"], there)
        read = {name: f"{folder}/inputs/{index}/out" for index, name in enumerate(spec["inputs"])}
        return {**spec, "config": config, "inputs": read, "out": f"{folder}/stage/out", "work": f"{folder}/stage/work"}

    def around(self, spec: Mapping[str, Any], home: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return what lies around a stage as in a run directory: small files with their text, and links to inputs."""
        run = Path(spec["out"]).parents[1]
        files, links = {"lock.json": run / "lock.json"}, {}
        for index, path in enumerate(spec["inputs"].values()):
            files[f"inputs/{index}/manifest.json"] = Path(path).parent / "manifest.json"
            links[f"inputs/{index}/out"] = self.by_path[path].at(home)
        return {name: path.read_text(encoding="utf-8") for name, path in files.items() if path.is_file()}, links

    def at_home(self, text: str, home: str) -> str:
        """Return what a host said with the paths and references of this machine."""
        for reference, path in self.references.items():
            text = text.replace(f"path:{self.by_path[path].at(home)}", reference)
        for path, one in self.by_path.items():
            text = text.replace(one.at(home), path)
        return text


def bundle(spec: Mapping[str, Any], resolve: Callable[[str], str]) -> Bundle:
    """Return what a stage reads; `resolve` finds the folder of a referenced model.

    Raises OSError when a file cannot be read, and what `resolve` raises.
    """
    texts = {text for text in _texts(spec["config"]) if text}
    references = {text: resolve(text) for text in sorted(texts) if _is_model(text)}
    paths = {text for text in texts if text.startswith("/") and Path(text).exists()}
    wanted = sorted(paths | set(spec["inputs"].values()) | set(references.values()))
    return Bundle({path: Input(Path(path), files_of(Path(path), hidden=True)) for path in wanted}, references)


def _is_model(text: str) -> bool:
    try:
        return model_ref.parse(text).scheme in RESOLVED
    except ValueError:
        return False


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for key, item in value.items() if key not in LEFT for text in _texts(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in _texts(item)]
    return []


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: item if key in LEFT else _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(item, change) for item in value]
    return value
