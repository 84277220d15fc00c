"""A chat template of the recipe is in the lock, in fingerprints, and in what stages are given."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from largeforge import identity
from largeforge.planning import make_plan
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate

if TYPE_CHECKING:
    from largeforge.plan import Plan

TEXT = "{% for message in messages %}{{ message.content }}{% endfor %}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    return tmp_path


def plan(*words: str) -> Plan:
    return make_plan(validate(compose(["+recipe=sft_qwen7b", "dataset.path=rows.jsonl", "hardware=cpu", *words])))


def test_the_text_is_locked_and_fingerprinted_wherever_its_file_lies(here: Path) -> None:
    for name in ("one.jinja", "two.jinja"):
        (here / name).write_text(TEXT)
    without, one, two = plan(), plan("model.chat_template=one.jinja"), plan("model.chat_template=two.jinja")
    assert one.digest == two.digest != without.digest
    assert one.lock["recipe"]["model"]["chat_template"] == TEXT
    kinds = {stage.kind: stage for stage in one.stages}
    before = {stage.kind: stage for stage in without.stages}
    for kind in ("train", "evaluate"):
        assert kinds[kind].config["chat_template"] == TEXT
        assert "chat_template" not in before[kind].config
        assert kinds[kind].fingerprint != before[kind].fingerprint
    assert kinds["prepare"].fingerprint == before["prepare"].fingerprint
    (here / "one.jinja").write_text(TEXT + "!")
    assert plan("model.chat_template=one.jinja").digest != one.digest


def test_the_hash_of_a_models_template_is_that_of_its_file(here: Path) -> None:
    (here / "chat_template.jinja").write_text(TEXT)
    assert identity.parts(here)["chat_template"] == hashlib.sha256(TEXT.encode()).hexdigest()
    (here / "chat_template.jinja").unlink()
    (here / "tokenizer_config.json").write_text(f'{{"chat_template": "{TEXT}"}}')
    assert identity.parts(here)["chat_template"] == hashlib.sha256(TEXT.encode()).hexdigest()
