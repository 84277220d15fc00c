"""Every wrong key and value is shown with its place, the rule and the nearest name; all of them at once."""

from __future__ import annotations

import pytest

from largeforge.recipe.folders import shipped_root


def find(problems, key):
    return next(problem for problem in problems if problem.key == key)


def test_yaml_and_command_line_at_once(folder):
    folder.write(f"{folder.trains}seed: -1\nmetod: {{}}\nmethod:\n  lerning_rate: 1e-4\n  packing: maybe\n")
    found = folder.problems("adapter.lora_r=zero", "gateway.prt=1")
    assert {(problem.where, problem.key, problem.given, problem.nearest) for problem in found} == {
        ("recipes/mine.yaml:14", "seed", "-1", ""),
        ("recipes/mine.yaml:15", "metod", "{}", "method"),
        ("recipes/mine.yaml:17", "method.lerning_rate", "0.0001", "learning_rate"),
        ("recipes/mine.yaml:18", "method.packing", "'maybe'", ""),
        ("command line", "adapter.lora_r", "'zero'", ""),
        ("command line", "gateway.prt", "1", "port"),
    }
    assert "learning_rate" in find(found, "method.lerning_rate").rule
    assert all(len(str(problem)) < 700 and "\n" not in str(problem) for problem in found)


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("model: {achitecture: 1}", "model.achitecture", "architecture"),
        ("model: {architecture: {hiden_size: 1}}", "model.architecture.hiden_size", "hidden_size"),
        ("adapter: {lora_rank: 1}", "adapter.lora_rank", "lora_r"),
        ("evaluation: {loss: {batchsize: 1}}", "evaluation.loss.batchsize", "batch_size"),
        ("jobs: {a: {mehod: 1}}", "jobs.a.mehod", "method"),
        ("jobs: {a: {method: {name: dpo, beat: 1}}}", "jobs.a.method.beat", "beta"),
        ("models: {a: {ref: 'hub:a/b', licence: x}}", "models.a.licence", "license"),
        ("topology: {experts: {a: {modle: x}}}", "topology.experts.a.modle", "model"),
        ("verify: {questions: [{prompt: a, expert: b, strem: true}]}", "verify.questions.0.strem", "stream"),
        ("router: {name: keyword, nme: 1}", "router.nme", "name"),
        ("hosts: {hosts: {local: {adress: x}}}", "hosts.hosts.local.adress", "address"),
    ],
)
def test_the_nearest_key_is_named_everywhere(folder, text, key, nearest):
    folder.write(folder.trains.replace("/model: qwen2_5_7b_instruct", "/model: tiny_general") + text + "\n")
    problem = find(folder.problems(), key)
    assert (problem.where, problem.nearest) == ("recipes/mine.yaml:14", nearest)


@pytest.mark.parametrize(
    ("text", "key", "given", "rule"),
    [
        ("method: sft", "method", "'sft'", "`- /method: sft` under defaults, or +method=sft"),
        ("model: null", "model", "null", "is required to train"),
        ("gates: 3", "gates", "3", "must be a section of keys"),
        ("jobs: [1]", "jobs", "[1]", "must be a section of keys"),
        ("jobs: {a: {method: dpo}}", "jobs.a.method", "'dpo'", "- /method@jobs.a.method: dpo"),
        ("jobs: {a: 1}", "jobs.a", "1", "must be a section of keys"),
        ("jobs: {My.Job: {}}", "jobs.My.Job", "", "lowercase letters"),
        (
            "topology: {experts: {general: {model: x, keywords: order}}}",
            "topology.experts.general.keywords",
            "'order'",
            "list",
        ),
        ("topology: {experts: {}}", "topology.experts", "{}", "at least 1 item"),
        ("serve: maybe", "serve", "'maybe'", "boolean"),
        ("description: null", "description", "null", "string"),
        ("seed: [1]", "seed", "[1]", "integer"),
        ("method: {name: spo}", "method.name", "'spo'", "must be one of distill, dpo, grpo"),
        ("jobs: {a: {method: {beta: 1}}}", "jobs.a.method.name", "", "is required"),
        ("dataset: {format: chatml}", "dataset.format", "'chatml'", "must be one of auto, messages"),
        ("method: {learning_rate: .inf}", "method.learning_rate", "inf", "finite"),
        ("method: {learning_rate: .nan}", "method.learning_rate", "nan", "finite"),
        ("gateway: {port: 65536}", "gateway.port", "65536", "65535"),
        ("model: {ref: 'hug:a/b'}", "model.ref", "'hug:a/b'", "begins with one of hub:"),
        ("register_as: ../../x", "register_as", "'../../x'", "must match"),
    ],
)
def test_wrong_types(folder, text, key, given, rule):
    folder.write(f"{folder.trains}{text}\n".replace("dataset:\n  path: rows.jsonl\ndataset: {", "dataset: {path: a, "))
    problem = find(folder.problems(), key)
    assert problem.given in (given, "{…}")
    assert rule in problem.rule
    assert problem.where.startswith("recipes/mine.yaml:")


def test_long_values_are_cut(folder):
    folder.write(f"{folder.trains}unknown: {'ä' * 9000}\nseed: {'x' * 9000}\nmerge: {{a: {'y' * 9000}}}\n")
    problems = folder.problems()
    assert len(problems) == 3
    assert all(len(problem.given) <= 80 for problem in problems)


def test_a_required_key_that_nobody_wrote_belongs_to_the_recipe(folder):
    folder.write("seed: 1\n")
    assert [(p.where, p.key) for p in folder.problems()] == [("recipes/mine.yaml", "name")]


def test_a_key_of_a_shipped_file_has_its_place_there(folder):
    folder.write(f"{folder.trains}method: {{name: dpo}}\n")
    problem = find(folder.problems(), "method.packing")
    shipped = shipped_root() / "conf" / "method" / "sft.yaml"
    lines = shipped.read_text(encoding="utf-8").splitlines()
    assert problem.where == f"{shipped}:{lines.index('packing: false') + 1}"


def test_nested_gates_are_those_with_dots(folder):
    folder.write(f"{folder.trains}gates: {{vs_base.loss: '< 0', loss: '< 3'}}\n")
    assert folder.recipe("gates.vs_base.loss=< -1").gates == {"vs_base.loss": "< -1", "loss": "< 3"}


@pytest.mark.parametrize("path", ["recipe:../rows.jsonl", "recipe:/etc/passwd", "recipe:data/../../x", "recipe:.."])
def test_recipe_paths_stay_beside_the_recipe(folder, path):
    folder.write(folder.trains.replace("rows.jsonl", path))
    problem = find(folder.problems(), "dataset.path")
    assert (problem.where, problem.given) == ("recipes/mine.yaml:13", repr(path))
    assert "leads out" in problem.rule


def test_paths_are_made_absolute(folder, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    (folder.path / "recipes").mkdir()
    (folder.path / "recipes" / "own.jsonl").touch()
    text = folder.trains.replace("rows.jsonl", "PATH\n  heldout_path: ~/held.jsonl")
    paths = {
        "rows.jsonl": folder.path / "rows.jsonl",
        "/data/rows.jsonl": "/data/rows.jsonl",
        "recipe:own.jsonl": folder.path / "recipes" / "own.jsonl",
        "recipe:data/quickstart/general.jsonl": shipped_root() / "recipes/data/quickstart/general.jsonl",
        "recipe:gone.jsonl": folder.path / "recipes" / "gone.jsonl",
    }
    for written, meant in paths.items():
        folder.write(text.replace("PATH", written))
        dataset = folder.recipe().dataset
        assert (dataset.path, dataset.heldout_path) == (str(meant), "/home/me/held.jsonl")


def test_paths_of_jobs_are_made_absolute(folder):
    rows = folder.trains.replace("- /", "- /x").replace("/xmodel:", "/model@jobs.a.model:")
    for group in ("dataset", "method", "adapter", "evaluation"):
        rows = rows.replace(f"/x{group}:", f"/{group}@jobs.a.{group}:")
    folder.write(rows.replace("\ndataset:\n  path: rows.jsonl", "\njobs: {a: {dataset: {path: rows.jsonl}}}"))
    assert folder.recipe().jobs["a"].dataset.path == str(folder.path / "rows.jsonl")
