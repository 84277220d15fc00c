"""Where the tokenizer of a model lies, without downloading it."""

from __future__ import annotations

from pathlib import Path

import pytest

from largeforge.recipe.schema import Registry
from largeforge.recipe.tokenizer_file import tokenizer_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of huggingface_hub with one repository in it; return the snapshot."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--Qwen--Qwen2.5-7B"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "tokenizer.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return snapshot


def find(reference: str) -> Path | None:
    return tokenizer_file(reference, Registry())


def test_a_folder_and_a_run_hold_theirs(tmp_path: Path) -> None:
    for name in ("model", "run/train/out"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "tokenizer.json").write_text("{}")
    assert find(f"path:{tmp_path}/model") == tmp_path / "model" / "tokenizer.json"
    assert find(f"run:{tmp_path}/run/train") == tmp_path / "run" / "train" / "out" / "tokenizer.json"
    assert find(f"path:{tmp_path}") is None


@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_the_cache_of_the_hub_is_looked_into(hub: Path, revision: str) -> None:
    assert find(f"hub:Qwen/Qwen2.5-7B{revision}") == hub / "tokenizer.json"


@pytest.mark.parametrize("reference", ["hub:Qwen/Qwen2.5-7B@v2", "hub:Qwen/Other", "hub:Qwen/Qwen2.5-7B@../../main"])
def test_what_is_not_in_the_cache_is_not_found(hub: Path, reference: str) -> None:
    assert find(reference) is None


@pytest.mark.parametrize("content", ["", "../../../elsewhere", "x" * 40, "\xff"])
def test_a_broken_reference_in_the_cache_leads_nowhere(hub: Path, content: str) -> None:
    (hub.parents[1] / "refs" / "main").write_text(content)
    assert find("hub:Qwen/Qwen2.5-7B") is None


@pytest.mark.parametrize("reference", ["job:general", "tiny:general", "registry:nobody@champion"])
def test_a_tokenizer_that_is_not_made_yet_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find(reference) is None
