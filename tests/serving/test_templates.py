"""Conversations are served in the words that a model was trained with, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from largeforge.errors import ServingError
from largeforge.serving import templates
from largeforge.serving.placement import Placement, ServedExpert

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.serving.deployment import Deployment

    Make = Callable[..., ServedExpert]
    Deploy = Callable[..., Deployment]

ONE, OTHER = "{{ messages }}", "{{ messages }}!"


def placement(base: str | None, *adapters: str | None, given: bool = False) -> Placement:
    carried = [
        ServedExpert(f"adapter{number}", "/files", "path:/files", adapter_on="base", chat_template=text)
        for number, text in enumerate(adapters)
    ]
    whole = ServedExpert("base", "/files", "path:/files", chat_template=base, template_is_given=given)
    return Placement(whole, tuple(carried))


def test_a_server_uses_the_template_of_its_model() -> None:
    assert templates.chosen(placement(ONE)) == ""
    assert templates.chosen(placement(ONE, ONE, "", None)) == ""
    assert templates.chosen(placement(None, ONE)) == ""


def test_a_template_that_is_not_with_the_model_is_handed_over() -> None:
    assert templates.chosen(placement(ONE, ONE, given=True)) == ONE
    assert templates.chosen(placement("", OTHER, OTHER)) == OTHER


@pytest.mark.parametrize("place", [placement(ONE, ONE, OTHER), placement("", ONE, OTHER)])
def test_an_adapter_with_another_template_is_refused(place: Placement) -> None:
    with pytest.raises(ServingError) as failure:
        templates.chosen(place)
    message = str(failure.value)
    assert message.startswith("topology.experts.adapter1: it was trained with another chat template")
    assert templates.sha256(OTHER)[:12] in message
    assert "merge: true" in message


class Probe:
    """Stands for the process that renders with transformers."""

    expected: dict[str, dict[str, Any]] = {}

    def __init__(self, places: Any) -> None:
        pass

    def results(self) -> dict[str, dict[str, Any]]:
        return self.expected

    def stop(self) -> None:
        pass


def expecting(monkeypatch: pytest.MonkeyPatch, **expected: Any) -> None:
    monkeypatch.setattr(Probe, "expected", expected)
    monkeypatch.setattr(templates, "Probe", Probe)


PROBED = {"messages": [{"role": "user", "content": "Hi"}], "ids": [1, 2, 3]}


def test_a_server_that_writes_the_same_is_served(
    expert: Make, deploy: Deploy, notes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expecting(monkeypatch, general=PROBED)
    general = replace(expert("general"), chat_template=ONE, template_is_given=True)
    (Path(general.location) / "tokens.json").write_text(json.dumps({"tokens": [1, 2, 3]}))
    with deploy(general):
        told = json.loads((tmp_path / "logs/gateway.json").read_text())["upstreams"]["general"][0]
        log = (tmp_path / "logs/vllm-general.log").read_text()
    assert told["chat_template"] == templates.sha256(ONE)
    assert f"--chat-template {tmp_path}/logs/chat_template-general.jinja" in log
    assert (tmp_path / "logs/chat_template-general.jinja").read_text() == ONE
    assert [note for note in notes if "verified" in note] == ["general: chat template verified"]


def test_a_server_that_writes_otherwise_is_refused(
    expert: Make, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    expecting(monkeypatch, general=PROBED)
    general = expert("general")
    (Path(general.location) / "tokens.json").write_text(json.dumps({"tokens": [1, 9, 3]}))
    with pytest.raises(ServingError) as failure, deploy(general):
        pytest.fail("it must not start")
    assert "general: the server writes conversations differently from the training" in str(failure.value)
    assert "token 1 on is [9, 3], and must be [2, 3]" in str(failure.value)


def test_what_cannot_be_verified_is_told(
    expert: Make, deploy: Deploy, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expecting(monkeypatch, general=PROBED, code={"error": "OSError: no tokenizer"})
    with deploy(expert("general"), expert("code")):
        pass
    said = [note for note in notes if "not verified" in note]
    assert said == [
        "the chat template of general is not verified: its server has no /tokenize",
        "the chat template of code is not verified: OSError: no tokenizer",
    ]
