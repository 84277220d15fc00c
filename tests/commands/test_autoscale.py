"""`autoscale` as a user calls it; what it decides and does is tested in `tests/autoscale` and `tests/deploy`."""

from __future__ import annotations

import pytest

from largeforge.cli import main
from largeforge.deploy.scaling import controller


@pytest.mark.parametrize("given", ["0", "-3", "1.5", "many"])
def test_no_looks_at_all_are_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _code(["autoscale", "lab", "support", f"--looks={given}"]) == 2
    assert f"--looks: must be a whole number of looks, 1 or more, not '{given}'" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "looks"), [(["--looks", "2"], 2), ([], None)])
def test_it_looks_as_often_as_is_said(words: list[str], looks: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(controller, "run", lambda *given, looks, **others: asked.append(looks))
    assert _code(["autoscale", "lab", "support", *words]) == 0
    assert asked == [looks]


def _code(words: list[str]) -> int:
    try:
        return main(words)
    except SystemExit as ended:
        return int(ended.code or 0)
