"""Errors of the operating system are found where a library wraps them."""

from __future__ import annotations

import errno

import pytest

from largeforge import os_errors


def test_a_full_disk_is_recognised_in_the_words_of_a_rust_library(tmp_path):
    error = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    found = os_errors.inside(error)
    assert found is not None and found.errno == errno.ENOSPC
    assert "no space left" in os_errors.explain_run_error(found, tmp_path)
    assert "run the same command again" in os_errors.explain_run_error(found, tmp_path)


@pytest.mark.parametrize("error", [ValueError("bad"), KeyError("os error")], ids=repr)
def test_other_errors_are_not_the_systems(error):
    assert os_errors.inside(error) is None


def test_an_error_of_the_system_is_itself():
    error = PermissionError(errno.EACCES, "no", "a.txt")
    assert os_errors.inside(error) is error
