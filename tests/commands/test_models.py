"""`largeforge models` as a user calls it: tables, JSON, exit codes, one message for a mistake."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from largeforge.cli import main
from largeforge.recipe.schema import Registry
from largeforge.registry import GateResult, Lineage, ModelRegistry
from tests.registry.conftest import empty_database  # noqa: F401

Say = Callable[..., str]


def at(home: Path) -> Registry:
    return Registry(uri=f"sqlite:///{home}/mlflow.db", artifacts=str(home / "artifacts"))


def write_model(folder: Path, seed: int) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(random.Random(seed).randbytes(2000))
    return folder


@pytest.fixture(scope="module")
def filled(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A registry with a base and two adapters, of which the second one failed its gate."""
    home = tmp_path_factory.mktemp("filled")
    shutil.copy(empty_database, home / "mlflow.db")
    made = ModelRegistry(at(home))
    base = Lineage("quickstart", "d", "b" * 64, stage="general.train", data_sha256={"train.jsonl": "ab" * 32})
    folder = write_model(home / "1", 1)
    made.register("base", folder, kind="model", lineage=base, metrics={}, alias="champion")
    for seed, value in ((2, 0.9), (3, 0.4)):
        gate = GateResult("exact_match", ">= 0.85", value, value > 0.85)
        lineage = Lineage("quickstart", "d", f"{seed}" * 64, parents=["registry:base/1"], stage="s.train", gates=[gate])
        made.register(
            "support", write_model(home / str(seed), seed), kind="adapter", lineage=lineage,
            metrics={"exact_match": value}, alias="champion" if seed == 2 else "candidate",
        )  # fmt: skip
    return home


@pytest.fixture
def registry(filled: Path, tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(at(Path(shutil.copytree(filled, tmp_path / "registry"))))


@pytest.fixture
def say(
    registry: ModelRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Say:
    """Run `models …` on the registry, and return what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str, code: int = 0) -> str:
        where = [f"registry.uri={registry.database.uri}", f"registry.artifacts={registry.storage.folder}"]
        found = main(["models", *words, *where])
        told = capsys.readouterr()
        assert found == code, told.out + told.err
        return told.err if code and not told.out else told.out

    return run


def test_list_and_show(say: Say) -> None:
    lines = say("list").splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["base", "1", "champion"],
        ["support", "2", "candidate"],
        ["1", "champion", "adapter"],
    ]
    assert "0 of 1" in lines[2]
    shown = say("show", "support@candidate")
    for part in ("registry:support/2", "registry:base/1", ">= 0.85", "failed"):
        assert part in shown
    found = json.loads(say("show", "registry:support", "--json"))
    assert (found["reference"], found["gates_passed"], found["aliases"]) == ("registry:support/1", True, ["champion"])
    assert [each["reference"] for each in json.loads(say("list", "support", "--json"))] == [
        "registry:support/1",
        "registry:support/2",
    ]


def test_promote_refuses_insists_and_goes_back(say: Say) -> None:
    assert "registry:support/2 is not promoted" in say("promote", "support@candidate", "--why", "newer", code=3)
    told = say("promote", "support@candidate", "--why", "only a demo", "--force")
    assert "support@champion is version 2 now; it was on version 1" in told
    assert "forced" in told
    assert "is @champion already; nothing was changed" in say("promote", "support/2", "--why", "x", "--force")
    assert "support@champion is version 1 now" in say("demote", "support", "--why", "demo is over")
    trail = say("log", "support")
    for part in ("promote support @champion 1 → 2", "only a demo", "forced: not all of its gates", "demo is over"):
        assert part in trail
    entries = json.loads(say("log", "--json"))
    assert [each["action"] for each in entries] == ["register", "register", "register", "promote", "demote"]


def test_diff_says_what_differs(say: Say) -> None:
    told = say("diff", "support", "support@candidate", code=1)
    for part in ("other files", "exact_match", "0.9 passed", "0.4 failed", "model.safetensors"):
        assert part in told
    rows = json.loads(say("diff", "support", "support/2", "--json", code=1))["differences"]
    assert {row["section"] for row in rows} == {"lineage", "metrics", "gates", "files"}
    assert "the same files" in say("diff", "support", "support/1")


def test_trace_follows_the_chain_to_the_data(say: Say) -> None:
    told = say("trace", "support")
    for part in ("registry:support/1  adapter", "registry:base/1  base", "data train.jsonl abababababab", "2" * 64):
        assert part in told
    chain = json.loads(say("trace", "support", "--json"))["chain"]
    assert chain["parents"][0]["version"]["reference"] == "registry:base/1"


def test_verify_names_the_damage_of_each_version(say: Say, registry: ModelRegistry) -> None:
    assert "3 of 3 versions are sound" in say("verify", "--all")
    path = registry.storage.folder / registry.versions("support")[1].run_id / "artifacts" / "model"
    content = bytearray((path / "model.safetensors").read_bytes())
    content[9] ^= 1
    (path / "model.safetensors").write_bytes(content)
    told = say("verify", "--all", code=1)
    assert "registry:support/2  damaged" in told and "2 of 3 versions are sound" in told
    assert "model.safetensors has sha256" in told
    assert "sizes are right" in say("verify", "support/2", "--quick"), "only reading finds a flipped bit"
    assert [each["sound"] for each in json.loads(say("verify", "support", "base", "--json"))] == [True, True]


def test_notes_and_tags_change(say: Say) -> None:
    told = say("note", "support", "--notes", "for the web shop", "--tag", "team=sales", "--tag", "x=1")
    assert "for the web shop" in told and "tag team" in told
    assert "tag x" not in say("note", "support", "--tag", "x=")
    assert "written once" in say("note", "support", "--tag", "largeforge.lock=x", code=1)


MISTAKES = [
    (["show", "suport"], 1, "Did you mean 'registry:support'?"),
    (["show", "support@champoin"], 1, "Did you mean 'registry:support@champion'?"),
    (["show", "support/x"], 2, "a registry version is a number"),
    (["demote", "support", "--alias", "candidat", "--why", "x"], 1, "'registry:support@candidate'?"),
    (["log", "suport"], 1, "Did you mean 'registry:support'?"),
    (["list", "registry.urii=x"], 2, "Did you mean 'uri'?"),
    (["verify"], 2, "give versions to verify, or --all"),
    (["note", "support"], 2, "nothing to change"),
    (["diff", "support", "nothing"], 2, "no model 'nothing' is registered"),
]


def test_a_mistake_is_one_message(say: Say) -> None:
    for words, code, message in MISTAKES:
        assert message in say(*words, code=code)


def test_a_registry_is_chosen_by_words_anywhere_and_a_reason_may_look_like_one(say: Say) -> None:
    say("promote", "support/1", "--alias", "best", "--why", "registry.uri=is faster")
    assert "registry.uri=is faster" in say("log", "support")


def test_an_empty_registry_says_how_to_fill_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["models"]) == 0
    assert "Nothing is registered in sqlite:///" in capsys.readouterr().out
    assert not list(tmp_path.iterdir()), "looking makes nothing"


def test_help_imports_nothing_heavy_and_the_rest_no_torch(registry: ModelRegistry, tmp_path: Path) -> None:
    uri, artifacts = registry.database.uri, registry.storage.folder
    program = f"""
import sys
from largeforge.cli import main
try:
    main(["models", "--help"])
except SystemExit:
    pass
print([name for name in ("torch", "mlflow", "rich", "pydantic") if name in sys.modules])
main(["models", "trace", "support", "registry.uri={uri}", "registry.artifacts={artifacts}"])
print([name for name in ("torch", "transformers", "datasets") if name in sys.modules])
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    lines = ended.stdout.splitlines()
    assert "promote" in ended.stdout and "--why" in ended.stdout
    assert [line for line in lines if line.startswith("[")] == ["[]", "[]"]


def test_delete_backup_restore_export_and_import(say: Say, registry: ModelRegistry, tmp_path: Path) -> None:
    assert "would delete registry:support/2" not in say("delete", "support", "--keep", "0"), "aliases keep it"
    say("promote", "support/1", "--alias", "candidate", "--why", "x")
    told = say("delete", "support", "--keep", "0")
    assert "There is nothing to delete" in told and "registry:support/2  it is @previous-candidate" in told
    assert "give one version as NAME/NUMBER, or NAME and --keep N" in say("delete", "support", code=2)
    assert "it is @champion" in say("delete", "base/1", "--yes", "--why", "x", code=1)
    assert "say --why TEXT" in say("delete", "base/1", "--yes", code=2)
    assert "1 new files" not in say("backup", str(tmp_path / "b"))
    assert "every file verified" in say("backup", str(tmp_path / "b"), "--check")
    say("export", "support", str(tmp_path / "support.tar"))
    say("import", str(tmp_path / "support.tar"), "--as", "bought", "--alias", "champion", "--why", "try it")
    assert "would delete registry:bought/2" not in say("delete", "bought", "--keep", "1")
    say("import", str(tmp_path / "support.tar"), "--as", "other", "--why", "try it")
    assert "Nothing was deleted" in say("delete", "other/1")
    assert "delete  registry:other/1" in say("delete", "other/1", "--yes", "--why", "no use")
    assert "no model 'other'" in say("show", "other", code=1)
    assert "no use" in say("log", "other"), "the trail outlives the model"
    shutil.rmtree(registry.storage.folder.parent)
    assert "3 versions" in say("restore", str(tmp_path / "b"))
    assert "3 of 3 versions are sound" in say("verify", "--all")
    assert "move" in say("restore", str(tmp_path / "b"), code=1)
