"""Descriptions of fields are Pydantic's own, found faster."""

from __future__ import annotations

from pydantic._internal._docs_extraction import extract_docstrings_from_cls

from largeforge import cache
from largeforge.recipe import field_docs
from largeforge.recipe.base import Strict
from largeforge.recipe.schema import Model, Recipe


def _below(model):
    return {model, *(found for child in model.__subclasses__() for found in _below(child))}


def test_every_model_has_the_descriptions_that_pydantic_finds():
    models = [model for model in _below(Strict) if model.__module__.startswith("largeforge.")]
    assert len(models) > 25
    for model in models:
        assert field_docs._docstrings(model) == extract_docstrings_from_cls(model, use_inspect=True), model


def test_descriptions_reach_the_fields_and_the_json_schema():
    assert Recipe.model_fields["jobs"].description == "Training jobs by name."
    assert Model.model_json_schema()["properties"]["license"]["description"] == "Licence of the weights."


def test_a_class_within_a_function_is_left_to_pydantic():
    class Local(Strict):
        """Not at the top level of a file."""

        size: int
        """How large."""

    assert Local.model_fields["size"].description == "How large."


def test_descriptions_are_read_again_when_their_file_has_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "SETTLED_S", -1.0)
    file = tmp_path / "section.py"
    for text in ("Seconds.", "Minutes."):
        file.write_text(f'class Section:\n    wait: int\n    """{text}"""\n')
        for _ in range(2):
            assert field_docs._classes.__wrapped__(str(file)) == {"Section": {"wait": text}}
    assert len(list((tmp_path / "cache" / "largeforge" / field_docs.KEPT).iterdir())) == 2


def test_descriptions_that_were_kept_are_not_parsed_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "SETTLED_S", -1.0)
    file = tmp_path / "section.py"
    file.write_text('class Section:\n    wait: int\n    """Seconds."""\n')
    field_docs._classes.__wrapped__(str(file))
    monkeypatch.setattr(field_docs, "_parsed", None)
    assert field_docs._classes.__wrapped__(str(file)) == {"Section": {"wait": "Seconds."}}
