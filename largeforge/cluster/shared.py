"""What machines that train together are given by the one that starts them: variables, a sign of shared storage."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from largeforge import artifacts
from largeforge.secrets import WITHHELD

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "shared-storage"
SETTLE_S = 5.0
"""Time for other machines to fail as well, after which the most likely cause is chosen."""
PASSED_ON = ("HF_", "NCCL_", "GLOO_", "TORCH_", "TRANSFORMERS_", "WANDB_", "MLFLOW_", "OMP_", "MKL_", "TOKENIZERS_")
"""Prefixes of variables that they are given besides those that keep Python's imports and output in order."""
PYTHON = ("PYTHONSAFEPATH", "PYTHONUNBUFFERED", "PYTHONHASHSEED")
_HANDED_ON = (*PYTHON, WITHHELD)


class Token:
    """A file that each machine must find with the same content: then the folder is on shared storage."""

    def __init__(self, path: Path):
        self.path, self.text = path, secrets.token_hex(16)

    def __enter__(self) -> Token:
        artifacts.write_text(self.path, self.text)
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)


def handed_on() -> dict[str, str]:
    """Return the variables of this process that those of other machines are given."""
    return {name: value for name, value in os.environ.items() if name in _HANDED_ON or name.startswith(PASSED_ON)}
