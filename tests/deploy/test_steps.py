"""What a step says differs, and that its command brings it about: carried out by a real shell."""

from __future__ import annotations

import getpass
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from largeforge.deploy import steps, wire
from largeforge.deploy.remote import look

NOTHING: dict[str, Any] = {
    "account": {}, "paths": {}, "units": {}, "models": {}, "environments": {}, "credentials": {}, "salt": "salt",
}  # fmt: skip


def found(*tops: Path) -> dict[str, Any]:
    """Return what is there, as a host tells it."""
    paths: dict[str, Any] = {}
    for top in tops:
        look.walk(str(top), paths)
    return {**NOTHING, "paths": paths}


def carry_out(step: steps.Step) -> None:
    subprocess.run(["sh", "-c", step.command()], input=step.input(), text=True, check=True)


def test_a_file_is_written_whole_and_then_is_as_wanted(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "unit.service"
    step = steps.File(str(path), "[Unit]\nDescription=a 'quoted' $HOME\n", user=getpass.getuser(), mode="640")
    assert step.differs(found(tmp_path)) == "new"
    carry_out(step)
    assert step.differs(found(tmp_path)) == "" and path.read_text() == step.text
    path.write_text("edited by hand")
    assert step.differs(found(tmp_path)) == "content differs"
    carry_out(step)
    path.chmod(0o666)
    assert step.differs(found(tmp_path)) == "mode 666 → 640"
    carry_out(step)
    assert step.differs(found(tmp_path)) == "" and not list(tmp_path.rglob("*.new"))


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    assert steps.Folder(str(tmp_path / "root"), user=getpass.getuser()).differs(found(tmp_path)) == "is a file"


def test_what_is_left_over_goes(tmp_path: Path) -> None:
    (tmp_path / "old" / "deeper").mkdir(parents=True)
    step = steps.Gone(str(tmp_path / "old"))
    assert step.differs(found(tmp_path)) == "left over"
    carry_out(step)
    assert step.differs(found(tmp_path)) == ""


def test_systemd_reads_units_again_only_when_one_changed() -> None:
    unit = steps.File("/etc/systemd/system/x.service", "[Unit]\n")
    assert steps.Reloaded((unit,)).differs(NOTHING) == "unit files change"
    stale = {**NOTHING, "units": {"y.service": {"NeedDaemonReload": "yes"}}}
    assert steps.Reloaded(()).differs(stale) == "y.service changed on disk"
    assert steps.Reloaded(()).differs(NOTHING) == ""


def test_a_secret_is_compared_without_being_told_and_is_in_no_command() -> None:
    step = steps.Credential("/etc/largeforge/shop/HF_TOKEN.cred", "HF_TOKEN", "hf_abc")
    known = {**NOTHING, "credentials": {"HF_TOKEN": look.hashlib.sha256(b"salthf_abc").hexdigest()}}
    assert step.differs(NOTHING) == "new" and step.differs(known) == ""
    assert steps.Credential(step.path, step.name, "hf_other").differs(known) == "another value"
    assert "hf_abc" not in step.command() + step.title + repr(step)


def test_a_model_whose_files_changed_is_made_again() -> None:
    step = steps.Made("models", "abc", "model abc", "true")
    assert step.differs(NOTHING) == "new"
    assert step.differs({**NOTHING, "models": {"abc": {"changed": []}}}) == ""
    assert "1 files are not what was verified (w)" in step.differs({**NOTHING, "models": {"abc": {"changed": ["w"]}}})


@pytest.mark.parametrize(
    "step",
    [
        steps.Account("largeforge", "/var/lib/largeforge"),
        steps.Reloaded((steps.File("/a", "ä\n"), steps.File("/b", ""))),
        steps.Running("x.service", (steps.File("/a", "text", mode="600"),)),
        steps.Made("models", "abc", "label", "line", "stdin"),
    ],
)
def test_steps_reach_the_other_process_as_they_were(step: steps.Step) -> None:
    assert wire.decoded(json.loads(json.dumps(wire.encoded([step])))) == [step]
