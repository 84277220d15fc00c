"""`largeforge trace`: from the digest of a lock to run, recipe, commit, data, gate report and versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from largeforge import artifacts
from largeforge.cli import main
from largeforge.registry import Lineage, ModelRegistry
from tests.fakes.recorded import Desk
from tests.registry.conftest import empty_database, make_model, settings  # noqa: F401

if TYPE_CHECKING:
    from largeforge.recipe.schema import Registry


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    monkeypatch.setenv("COLUMNS", "200")
    return Desk(tmp_path / "desk")


def test_from_a_lock_to_everything_it_led_to(
    desk: Desk,
    settings: Registry,  # noqa: F811
    make_model: Callable[..., Path],  # noqa: F811
    capsys: Any,
) -> None:
    run = desk.record(loss=2.0, lock={"origin": {"git": {"commit": "c0ffee" * 6, "dirty": True}}})
    (run / "report.html").write_text("")
    (run / "gate" / "out").mkdir(exist_ok=True)
    artifacts.write_json(run / "gate" / "out" / "evaluation.json", {})
    lock = json.loads((run / "lock.json").read_text())
    manifest = json.loads((run / "train" / "manifest.json").read_text())
    lineage = Lineage("small", "d", lock["digest"], {}, [], str(run), "train", manifest["fingerprint"])
    ModelRegistry(settings).register(
        "small", make_model(1), kind="model", lineage=lineage, metrics={}, alias="champion", lock=lock
    )
    words = [f"registry.uri={settings.uri}", f"registry.artifacts={settings.artifacts}"]
    assert main(["trace", lock["digest"][:8], *words]) == 0
    told = capsys.readouterr().out
    for part in (f"runs/small/{run.name}", "c0ffee", "not committed", "words.jsonl", "report.html", "evaluation.json",
                 "registry:small/1", "@champion", "steps train"):  # fmt: skip
        assert part in told, told
    assert main(["trace", "registry:small", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["lock"], found["recipe"], found["clue"]) == (lock["digest"], "small", "registered version")
    with pytest.MonkeyPatch.context() as narrow:
        narrow.setenv("COLUMNS", "40")  # what one may want to copy is on one line all the same
        assert main(["trace", lock["digest"][:8], *words]) == 0
        told = capsys.readouterr().out
        assert f"runs/small/{run.name}/gate/out/evaluation.json" in told, told
        assert lock["digest"] in told
    assert found["data"]["words.jsonl"] == artifacts.file_sha256(desk.path / "words.jsonl")

    for path in sorted(run.rglob("*"), reverse=True):  # the run is gone; the registry still knows
        path.unlink() if path.is_file() else path.rmdir()
    assert main(["trace", lock["digest"][:12], *words]) == 0
    told = capsys.readouterr().out
    for part in ("not on this machine", "c0ffee", "words.jsonl", "registry:small/1"):
        assert part in told


def test_from_a_request_to_the_lock_of_the_model_that_answered(desk: Desk, capsys: Any) -> None:
    run = desk.record(loss=2.0)
    lock = json.loads((run / "lock.json").read_text())["digest"]
    logs = desk.path / "runs" / "serving" / "20260101T000000-12345678" / "serve" / "work" / "logs"
    logs.mkdir(parents=True)
    lines = [
        {"time": "t1", "message": "request", "request_id": "ab-1", "model": "registry:small/1", "lock": lock},
        {"time": "t2", "message": "request", "request_id": "ab-2", "model": "hub:acme/base", "lock": "", "status": 200},
        {"time": "t3", "message": "request", "request_id": "ab-3", "model": "", "lock": "", "status": 503},
    ]
    compact = {"separators": (",", ":")}  # as the gateway writes
    (logs / "gateway.log").write_text("no JSON\n" + "".join(json.dumps(line, **compact) + "\n" for line in lines[1:]))
    (logs / "gateway-1767225600000.log").write_text(json.dumps(lines[0]) + "\n")
    assert main(["trace", "ab-1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["clue"], found["lock"], found["runs"]) == ("request", lock, [f"runs/small/{run.name}"])
    assert main(["trace", "ab-2"]) == 2
    assert "request ab-2 (t2) was answered by hub:acme/base, which has no lock" in capsys.readouterr().err
    assert main(["trace", "ab-3"]) == 2
    assert "was answered with status 503" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["00000000"], "no run in runs and no registered version leads there"),
        (["1234567"], "the digest of a lock (8 characters or more)"),
        (["a" * 8, "b" * 8], "give one lock digest"),
        (["1234567"], "the x-request-id of an answer"),
    ],
)
def test_what_leads_nowhere_is_one_message(desk: Desk, capsys: Any, words: list[str], message: str) -> None:
    assert main(["trace", *words]) == 2
    assert message in capsys.readouterr().err
