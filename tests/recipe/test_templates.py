"""A recipe's chat template: a file beside it becomes part of the recipe, and a wrong one is told by its key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.recipe.templates import inlined

if TYPE_CHECKING:
    import pytest

TEXT = "{% for message in messages %}{% generation %}{{ message.content }}{% endgeneration %}{% endfor %}"


def values(template: str) -> dict[str, Any]:
    return {"model": {"ref": "hub:a/b", "chat_template": template}}


def problem(template: str, folder: Path) -> str:
    found, problems = inlined(values(template), str(folder))
    assert found == values(template)
    assert [one.key for one in problems] == ["model.chat_template"]
    return str(problems[0].rule)


def test_a_path_becomes_the_text_wherever_a_model_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chat.jinja").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    for path in ("recipe:chat.jinja", "chat.jinja", str(tmp_path / "chat.jinja")):
        assert inlined(values(path), str(tmp_path)) == (values(TEXT), [])
    several = {"jobs": {"a": values("recipe:chat.jinja")}, "models": {"b": values("recipe:chat.jinja")["model"]}}
    found, problems = inlined(several, str(tmp_path))
    assert not problems
    assert found["jobs"]["a"]["model"]["chat_template"] == found["models"]["b"]["chat_template"] == TEXT


def test_the_text_itself_and_none_stay_as_they_are(tmp_path: Path) -> None:
    for given in (values(TEXT), values(""), {"model": "no section"}, {"jobs": {"a": None}, "models": 3}):
        assert inlined(given, str(tmp_path)) == (given, [])


def test_what_is_no_template_is_told(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("Hello")
    (tmp_path / "binary").write_bytes(b"\xff\xfe{{")
    (tmp_path / "broken.jinja").write_text("{{ messages }}\n{% for %}")
    (tmp_path / "huge").write_bytes(b"{{ }}" * 300_000)
    assert "No such file" in problem("recipe:none.jinja", tmp_path)
    assert "neither {{ nor {%" in problem("recipe:plain.txt", tmp_path)
    assert "it is not text" in problem("recipe:binary", tmp_path)
    assert "is no Jinja template, line 2" in problem("recipe:broken.jinja", tmp_path)
    assert "more than 1 MiB" in problem("recipe:huge", tmp_path)
    assert "leads out of the folder of recipes" in problem("recipe:../chat.jinja", tmp_path)
    assert "leads out of the folder of recipes" in problem("recipe:/etc/passwd", tmp_path)
    assert "there is no such pack" in problem("pack:nobody/chat.jinja", tmp_path)
