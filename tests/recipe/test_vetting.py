"""What a YAML file may hold before Hydra sees it: data, of a sane size, and nothing that acts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from largeforge.recipe.vetting import MAX_BYTES, MAX_DEPTH, vet


def problems(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return vet(path).problems


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "name: a\n",
        "\ufeffname: a\n",
        "name: a\r\nseed: 1\r\n",
        "description: 'grüße, 数据, costs $5'\n",
        "a: &a {b: 1}\nc: *a\nd:\n  <<: *a\n  e: 2\n",
        "name: a\ndescription: the ${name} of it\n",
        "'on': 1\n'1': 2\n",
        "defaults: [_self_]\n",
        "defaults:\n  - base\n  - optional /model: x\n  - override /hardware: cpu\n  - /model@jobs.a.model: [b, c]\n"
        "  - /method: null\n  - /topology/big: x\n",
    ],
)
def test_data_passes(tmp_path, text):
    assert problems(tmp_path, text) == []


@pytest.mark.parametrize(
    ("text", "line", "key", "rule"),
    [
        ("a: [1,\n", 2, "YAML", "not valid YAML"),
        ("a: b: c\n", 1, "YAML", "not valid YAML"),
        ("a:\n\tb: 1\n", 2, "YAML", "tabs cannot indent"),
        ("a: 1\n---\nb: 2\n", 2, "YAML", "not valid YAML"),
        ("a: *nobody\n", 1, "YAML", "not valid YAML"),
        ("- 1\n", 1, "YAML", "`key: value` lines"),
        ("just text\n", 1, "YAML", "`key: value` lines"),
        (b"a: 1\nb: \xff\n", 2, "YAML", "not UTF-8"),
        ("a: 1\nb: 2\na: 3\n", 3, "a", "given twice; first on line 1"),
        ("a:\n  b: 1\n  b: 2\n", 3, "a.b", "given twice; first on line 2"),
        ("1: a\n", 1, "1", "in quotes: '1'"),
        ("on: a\n", 1, "on", "in quotes: 'on'"),
        ("a:\n  null: b\n", 2, "a.null", "in quotes: 'null'"),
        ("[a, b]: c\n", 1, "?", "not a list"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "a", "tags are not allowed"),
        ("a: !mine b\n", 1, "a", "tags are not allowed"),
        ("a: !!binary aGVsbG8=\n", 1, "a", "tags are not allowed"),
        ("a:\n  _target_: os.system\n", 2, "a._target_", "cannot name code"),
        ("a: [{b: {_partial_: true}}]\n", 1, "a.0.b._partial_", "cannot name code"),
        ("a: ${oc.env:HOME}\n", 1, "a", "one plain reference"),
        ("a: [x, {b: '${ oc.env:HOME}'}]\n", 1, "a.1.b", "one plain reference"),
        ("r: oc.env\na: ${${r}:HOME}\n", 2, "a", "one plain reference"),
        ("a: ${b}${b}\n", 1, "a", "one plain reference"),
        ("a: ${b\n", 1, "a", "one plain reference"),
        ('a: "\\e[31mred"\n', 1, "a", "control character"),
        ('"a\\e[31m": 1\n', 1, "'a\\x1b[31m'", "control character"),
        ("hydra: {run: {dir: /tmp}}\n", 1, "hydra", "cannot configure Hydra"),
        ("a: &a {hydra: {}}\n<<: *a\n", 2, "<<", "not allowed at the top level"),
        ("defaults: model\n", 1, "defaults", "must be a list"),
        ("defaults: [[a]]\n", 1, "defaults", "each entry is one choice"),
        ("defaults:\n  - /model: ../../etc/x\n", 2, "defaults /model", "cannot be computed"),
        ("defaults:\n  - /model: ${oc.env:HOME}\n", 2, "defaults /model", "cannot be computed"),
        ("defaults:\n  - ../x\n", 2, "defaults", "each entry is one choice"),
        ("defaults:\n  - override /hydra/launcher: evil\n", 2, "defaults", "cannot configure Hydra"),
        ("defaults:\n  - /hydra/launcher/evil\n", 2, "defaults", "cannot configure Hydra"),
        ("defaults:\n  - /model@hydra.launcher: evil\n", 2, "defaults", "cannot configure Hydra"),
        ("defaults:\n  - /model@_global_.hydra: evil\n", 2, "defaults", "cannot configure Hydra"),
        ('defaults:\n  - "/model@[hydra]": evil\n', 2, "defaults", "an entry is"),
        ("# @package hydra.launcher\na: 1\n", 1, "YAML", "@package hydra.launcher is not allowed"),
        ("# words first\n# @package [hydra]\na: 1\n", 2, "YAML", "@package [hydra] is not allowed"),
        ("# @package _global_.hydra\na: 1\n", 1, "YAML", "is not allowed"),
    ],
)
def test_everything_else_is_refused_with_its_line(tmp_path, text, line, key, rule):
    found = problems(tmp_path, text)
    assert any(p.where.endswith(f"recipe.yaml:{line}") and p.key == key and rule in p.rule for p in found), found


def test_all_problems_come_at_once(tmp_path):
    found = problems(tmp_path, "hydra: {}\na: !!binary x\nb: ${oc.env:X}\nb: 2\n")
    assert [problem.where.rpartition(":")[2] for problem in found] == ["1", "2", "3", "4"]


def test_messages_are_short_and_printable(tmp_path):
    for problem in problems(tmp_path, f'a: "{"x" * 5000}\\e ${{oc.env:X}}"\n'):
        assert len(str(problem)) < 400
        assert str(problem).isprintable()


def bomb(levels):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (bomb(60), "aliases counted in full"),
        ("a: &a [*a]\n", "stands inside"),
        ("a: &a {b: {c: *a}}\n", "stands inside"),
        ("a: " + "[" * 300_000, f"deeper than {MAX_DEPTH}"),
        ("a: " + "{b: " * 100_000, f"deeper than {MAX_DEPTH}"),
        ("\n".join(f"{' ' * i}a:" for i in range(1000)), f"deeper than {MAX_DEPTH}"),
        ("a: [" + "1, " * 200_000 + "]", "more than 100000 values"),
        ("a: " + "x" * (MAX_BYTES + 1), "at most 1 MiB"),
    ],
    ids=["bomb", "loop", "deep-loop", "deep-list", "deep-flow", "deep-block", "many", "huge"],
)
def test_bombs_are_defused_quickly(tmp_path, text, rule):
    """In a process of its own, with 1 GiB of memory: a bomb that goes off ends it."""
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "from pathlib import Path; from largeforge.recipe.vetting import vet\n"
        "print(vet(Path(sys.argv[1])).problems[0].rule)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=30)
    assert rule in ran.stdout, ran.stderr


def test_an_unreadable_file_is_a_problem(tmp_path):
    assert "cannot be read" in vet(tmp_path / "gone.yaml").problems[0].rule
    (tmp_path / "folder.yaml").mkdir()
    assert "cannot be read" in vet(tmp_path / "folder.yaml").problems[0].rule
