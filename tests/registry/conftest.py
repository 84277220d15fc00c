"""Small folders that look like models, and a registry of its own for each test."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest

from largeforge.recipe.schema import Registry
from largeforge.registry.database import _create

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without anything in it, made once: its migrations take seconds."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    _create(path)
    return path


@pytest.fixture
def settings(tmp_path: Path, empty_database: Path) -> Registry:
    home = tmp_path / "my project" / "registry"
    home.mkdir(parents=True)
    shutil.copy(empty_database, home / "mlflow.db")
    return Registry(uri=f"sqlite:///{home}/mlflow.db", artifacts=str(home / "artifacts"))


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Write a model folder whose weights depend on the seed."""

    def make(seed: int, *, size: int = 2000) -> Path:
        folder = tmp_path / "models" / str(seed)
        (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text('{"model_type": "qwen2"}')
        (folder / "tokenizer" / "vocab.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(random.Random(seed).randbytes(size))
        return folder

    return make
