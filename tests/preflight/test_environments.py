"""Environments of pinned packages: built, or to be built from an index that answers."""

from __future__ import annotations

import pytest

from tests.ports import free_port
from tests.preflight.conftest import only

QUANTIZE = ("+recipe=quantize_small", "hardware.memory_gib=16")


@pytest.fixture(autouse=True)
def _no_environments(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_nothing_is_asked_where_no_environment_is_needed(look):
    assert only(look("environments", "+recipe=sft_qwen7b", "dataset.path=rows.jsonl")).level == "skipped"


def test_an_index_that_answers_is_fine(look, server):
    finding = only(look("environments", *QUANTIZE, PIP_INDEX_URL=f"{server.url}/simple/"))
    assert finding.level == "ok"
    assert "llm_compressor: will be built" in finding.text


def test_an_index_that_cannot_be_reached_is_a_warning(look):
    address = f"http://u:secret@127.0.0.1:{free_port()}/simple/"
    finding = only(look("environments", *QUANTIZE, PIP_INDEX_URL=address))
    assert finding.level == "warning"
    assert "cannot be reached" in finding.text
    assert "secret" not in finding.text
    assert "environments build" in finding.cure


def test_a_place_of_wheels_needs_no_index(look):
    pinned = ("environment.requirements=['idna==99.0']", "quantization=none")
    finding = only(look("environments", *QUANTIZE, *pinned, PIP_NO_INDEX="1"))
    assert finding.level == "ok"
    assert "current: will be built" in finding.text
