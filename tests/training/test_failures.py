"""Errors of libraries in a user's words."""

from __future__ import annotations

import errno
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from largeforge.errors import ModelError
from largeforge.training import failures

Usage = namedtuple("Usage", "total used free")


class OutOfMemoryError(RuntimeError):
    """As torch's, by name."""


CPU = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "4294967296 bytes. Error code 12 (Cannot allocate memory)"
)
WRITER = "[enforce fail at inline_container.cc:672] . unexpected pos 128 vs 22"


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (RuntimeError(CPU), "4.00 GiB more were refused"),
        (MemoryError(), "this process had reached"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "this process had reached"),
        (RuntimeError("std::bad_alloc"), "this process had reached"),
    ],
)
def test_memory_that_is_refused_is_said_in_one_line(error: Exception, asked: str, tmp_path: Path) -> None:
    found = failures.explain(error, tmp_path)
    assert found is not None
    assert found.reason == "out_of_memory"
    assert found.message.startswith("out of memory")
    assert asked in found.message
    assert "\n" not in found.message
    assert found.memory_gib > 0


def test_memory_of_a_gpu_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "peak_memory_bytes", lambda device: {"cuda": 79 * 2**30}[device])
    error = OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.18 GiB")
    found = failures.explain(error, tmp_path)
    assert found is not None
    assert found.reason == "out_of_memory"
    assert found.message == "out of GPU memory: 2.50 GiB more were refused, this process had reached 79.00 GiB"
    assert found.memory_gib == 79


def test_a_disk_that_torch_only_hints_at_is_full_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 10, 0))
    found = failures.explain(RuntimeError(WRITER), tmp_path)
    assert found is not None
    assert found.reason == "disk"
    assert "no space left on its disk" in found.message
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 0, 2**40))
    found = failures.explain(RuntimeError(WRITER), tmp_path)
    assert found is not None
    assert "would exceed the largest size allowed" in found.message


def test_the_cause_of_an_error_is_found_behind_it(tmp_path: Path) -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "optimizer.pt"))
        except OSError as error:
            raise RuntimeError("could not save") from error
    except RuntimeError as error:
        found = failures.explain(error, tmp_path)
    assert found is not None
    assert found.reason == "disk"
    assert str(tmp_path / "optimizer.pt") in found.message
    assert "free some space and run the same command again" in found.message


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    assert failures.explain(ValueError("no"), tmp_path) is None
    assert failures.explain(FileNotFoundError(errno.ENOENT, "No such file"), tmp_path) is None


def test_a_broken_loss_says_what_to_do(tmp_path: Path) -> None:
    kept = tmp_path / "checkpoint-30"
    kept.mkdir()
    settings = {"step": 37, "learning_rate": 0.02, "max_grad_norm": 1.0}
    text = str(failures.not_finite("the loss became nan", **settings, kept=kept))
    assert "the loss became nan at step 37, with a learning rate of 0.02" in text
    assert "lower method.max_grad_norm (now 1)" in text
    assert "checkpoint-30 is from before and is kept" in text
    assert "model.ref" not in text, "an adapter is no model"
    (kept / "model.safetensors").touch()
    assert f"model.ref=path:{kept}" in str(failures.not_finite("the loss became nan", **settings, kept=kept))
    assert "no checkpoint from before" in str(failures.not_finite("the loss became nan", **settings, kept=None))


def test_what_is_behind_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    def behind(cause: Exception) -> str:
        try:
            raise ModelError("model x cannot be loaded") from cause
        except ModelError as error:
            return failures.behind(error, tmp_path).reason

    assert behind(MemoryError()) == "out_of_memory"
    assert behind(ValueError("no such layer")) == ""
