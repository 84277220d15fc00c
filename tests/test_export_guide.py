"""The commands of docs/export.md export what they say, and its numbers are the code's."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, get_args

import pytest

from largeforge.cli import main
from largeforge.exporters.kubernetes import Config
from largeforge.exporting.system import HOST_GIB_PER_PROCESS, STARTUP_REST_S
from largeforge.recipe.schema import Autoscaling
from tests.guides import commands, page

if TYPE_CHECKING:
    from pathlib import Path

PAGE = page("export")
SCALING = Autoscaling()


@pytest.mark.parametrize("command", commands(PAGE))
def test_command(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    assert main(shlex.split(command)) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    kind = "kubernetes" if "export=kubernetes" in command else "compose"
    assert re.search(rf"^wrote +exports/\w+/{kind}/", said, re.M)
    assert {"kubernetes": "kubectl apply -k", "compose": "docker compose -f"}[kind] in said


def test_there_are_commands_for_both() -> None:
    assert {"kubernetes", "compose"} <= {word for one in commands(PAGE) for word in re.findall(r"export=(\w+)", one)}


def test_numbers() -> None:
    versions = get_args(Config.model_fields["kubernetes_version"].annotation)
    assert f"one of {versions[0]} to {versions[-1]}" in PAGE and f"Kubernetes {versions[0]} to {versions[-1]}" in PAGE
    assert f"for {SCALING.up_s:g} s" in PAGE and f"for {SCALING.down_s:g} s" in PAGE
    assert SCALING.in_flight == 0.8 and "four fifths full" in PAGE
    assert HOST_GIB_PER_PROCESS == 4 and "four GiB" in PAGE
    assert STARTUP_REST_S == 120 and "two minutes" in PAGE


def test_options_that_the_page_names_are_there() -> None:
    from largeforge.exporters import compose, kubernetes

    known = kubernetes.Config.model_fields.keys() | compose.Config.model_fields.keys()
    assert set(re.findall(r"export\.([a-z_]+)", PAGE)) <= known
