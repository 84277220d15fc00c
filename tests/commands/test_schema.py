"""Schemas accept what recipes say, refuse what they cannot, and reach the editor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from omegaconf import OmegaConf

from largeforge.cli import main
from largeforge.recipe import extensions, sources
from largeforge.recipe.json_schema import DRAFT, schemas

FILES = [(group, path) for group in sources.groups() for path in sources.choices(group).values()]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return schemas()


def errors(schema: dict[str, Any], text: str) -> list[str]:
    """Return the paths of all errors of a YAML text, read as recipes are."""
    data = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    return [error.json_path for error in jsonschema.Draft202012Validator(schema).iter_errors(data)]


def test_every_group_with_choices_has_a_sound_schema(found: dict[str, Any]) -> None:
    assert set(found) == {group for group, _ in FILES}
    for schema in found.values():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["$schema"] == DRAFT


@pytest.mark.parametrize(("group", "path"), FILES, ids=lambda value: getattr(value, "stem", value))
def test_a_shipped_file_fits_its_schema(found: dict[str, Any], group: str, path: Path) -> None:
    assert errors(found[group], path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "seed: ${gateway.port}\nname: run-${seed}\nmode: ${description}\nserve: ${merge}",
        "jobs: {a: {method: '${jobs.b.method}', dataset: {max_rows: '${seed}'}}, b: {gates: '${gates}'}}",
        "topology: {experts: {general: {model: '???'}}}\nmodel: {ref: '???'}",
        'gates: {loss: "< 2", vs_base: {loss: "< 0"}, vs_base.exact_match: ">= 1e-3"}',
        "defaults: [quickstart, _self_, {override /hardware: cpu}, {/method@jobs.a.method: dpo}]",
        "defaults: [{/evaluation: [loss, exact_match]}, {optional /model: null}, {override /model@jobs.a.model: null}]",
        "defaults: [{/method: sft}]\nmethod: {packing: true}",
        "method: {beta: 0.2}",
        "topology: {flags: {one: true, two: 0.1, three: {share: false, users: {amy: true}, tenants: {acme: 0.5}}}}",
    ],
)
def test_what_a_recipe_may_say_fits(found: dict[str, Any], text: str) -> None:
    assert errors(found["recipe"], text) == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("seeed: 1", "$"),
        ("seed: many", "$.seed"),
        ("seed: -1", "$.seed"),
        ("seed: 1.5", "$.seed"),
        ("seed: ${oc.env:HOME}", "$.seed"),
        ("serve: 3", "$.serve"),
        ("mode: paln", "$.mode"),
        ("name: Big Name", "$.name"),
        ("dataset: {heldout_fraction: 1}", "$.dataset"),
        ("dataset: {pth: a.jsonl}", "$.dataset"),
        ("gateway: {port: 70000}", "$.gateway"),
        ("gateway: 8080", "$.gateway"),
        ("jobs: {a: {method: {learning_rate: fast}}}", "$.jobs"),
        ("topology: {experts: {general: {keywords: word}}}", "$.topology"),
        ("model: {ref: Qwen/Qwen2.5-7B}", "$.model"),
        ("gates: {loss: small}", "$.gates"),
        ("method: {name: ppo}", "$.method"),
        ("method: {name: sft, beta: 0.1}", "$.method"),
        ("defaults: [{/method: sft}]\nmethod: {beta: 0.1}", "$.method"),
        ("defaults: [{override /adapter: none}]\nadapter: {lora_r: 8}", "$.adapter"),
        ("defaults: [{/method: ppo}]", "$.defaults[0]"),
        ("defaults: [{/metod: sft}]", "$.defaults[0]"),
        ("defaults: [{method: sft}]", "$.defaults[0]"),
        ("defaults: [{/method: sft, /model: tiny_general}]", "$.defaults[0]"),
        ("defaults: [quickstrat]", "$.defaults[0]"),
        ("hydra: {run: {dir: x}}", "$"),
    ],
)
def test_a_mistake_does_not_fit(found: dict[str, Any], text: str, path: str) -> None:
    assert path in errors(found["recipe"], text)


@pytest.mark.parametrize(
    ("group", "text"),
    [
        ("method", "name: sft\nbeta: 1"),
        ("method", "defaults: [nope]"),
        ("evaluation", "loss: {batch_size: 0}"),
        ("hosts", "hosts: {Big One: {address: local}}"),
        ("model", "architecture: {hidden_size: wide}"),
        ("adapter", "name: lora\nlora_dropout: 1.0"),
    ],
)
def test_a_mistake_in_a_choice_does_not_fit(found: dict[str, Any], group: str, text: str) -> None:
    assert errors(found[group], text)


def test_a_field_has_its_meaning_default_and_range(found: dict[str, Any]) -> None:
    field = found["recipe"]["$defs"]["method.sft"]["properties"]["learning_rate"]
    assert (field["description"], field["default"], field["exclusiveMinimum"]) == ("Peak learning rate.", 2e-5, 0)
    assert found["recipe"]["properties"]["seed"]["description"]
    assert {f"method.{name}" for name in extensions.names("method")} <= set(found["method"]["$defs"]) | {
        f"method.{option['properties']['name']['anyOf'][0]['const']}" for option in found["method"]["anyOf"]
    }


def test_the_choices_of_the_working_directory_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "gentle.yaml").write_text("name: dpo\nbeta: 0.01\n")
    monkeypatch.chdir(tmp_path)
    schema = schemas()["recipe"]
    assert errors(schema, "defaults: [{/method: gentle}]\nmethod: {beta: 0.1}") == []
    assert errors(schema, "defaults: [{/method: gentle}]\nmethod: {packing: true}") == ["$.method"]


def test_the_command_writes_files_and_the_settings_of_vscode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["schema", "--vscode"]) == 0
    written = {path.name for path in (tmp_path / "schemas").iterdir()}
    assert written == {f"{name}.schema.json" for name in schemas()}
    settings = json.loads((tmp_path / ".vscode" / "settings.json").read_text())["yaml.schemas"]
    assert settings["./schemas/recipe.schema.json"] == "recipes/**/*.yaml"
    for name in settings:
        assert (tmp_path / name).is_file()
    modeline = "# yaml-language-server: $schema=../schemas/recipe.schema.json"
    assert modeline in capsys.readouterr().out
    recipe = tmp_path / "recipes" / "mine.yaml"
    recipe.parent.mkdir()
    assert (recipe.parent / modeline.partition("=")[2]).is_file()
    recipe.write_text(f"{modeline}\n# @package _global_\n# My own.\ndefaults: [serve_quickstart, _self_]\nname: mine\n")
    assert sources.description(recipe) == "My own."
    assert main(["+recipe=mine", "mode=plan"]) == 0


def test_only_the_groups_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["schema", "recipe", "--output", "a/b"]) == 0
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["recipe.schema.json"]
    assert main(["schema", "metod"]) == 2
    assert "Did you mean 'method'?" in capsys.readouterr().err


def test_settings_that_are_no_json_stay_and_the_command_says_what_to_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".vscode").mkdir()
    (tmp_path / ".vscode" / "settings.json").write_text("{ oh")
    assert main(["schema", "--vscode"]) == 2
    assert (tmp_path / ".vscode" / "settings.json").read_text() == "{ oh"
    assert '"./schemas/recipe.schema.json": "recipes/**/*.yaml"' in capsys.readouterr().err
