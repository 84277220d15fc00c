"""The command line as a user meets it, by what it prints and how it exits: mistakes here, the rest as a process."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import largeforge
from largeforge.recipe.folders import shipped_root
from tests import in_process

MINE = """\
# @package _global_
# My own recipe.
defaults:
  - /model: qwen2_5_7b_instruct
  - /dataset: jsonl
  - /method: sft
  - /adapter: lora
  - override /hardware: mybox
  - _self_
name: mine
dataset:
  path: recipe:data/rows.jsonl
"""


def run(*words, cwd, python=(sys.executable,), **environment):
    return subprocess.run(
        [*python, "-m", "largeforge", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "120", **environment},
    )


def refused(*words, cwd):
    """Return the message of a command that a user got wrong."""
    ended = in_process.largeforge(*words, cwd=cwd, COLUMNS="120")
    assert (ended.returncode, ended.stdout) == (2, ""), ended
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("error: ") == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr


@pytest.fixture
def own(tmp_path):
    """A user's own folder: a recipe, its data, a machine and an inventory."""
    files = {
        "recipes/mine.yaml": MINE,
        "recipes/data/rows.jsonl": "{}\n",
        "conf/hardware/mybox.yaml": "name: mybox\ndevice: cuda\ngpu: My GPU\nmemory_gib: 80\ncores: 8\n",
        "hosts/lab.yaml": "name: lab\nhosts:\n  one: {address: 10.0.0.1}\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_no_arguments_lists_the_recipes(own):
    ended = run(cwd=own)
    assert ended.returncode == 0
    assert "+recipe=NAME" in ended.stdout
    assert "My own recipe." in ended.stdout
    for path in (shipped_root() / "recipes").glob("*.yaml"):
        assert path.stem in ended.stdout


def test_a_list_survives_whatever_is_in_the_folder(own):
    (own / "recipes" / "[bold]odd[").mkdir()
    (own / "recipes" / "[bold]odd[" / "x].yaml").write_bytes(b"# \x1b[31mred\xff\n")
    (own / "recipes" / "broken.yaml").write_text("a: [\n")
    ended = run(cwd=own)
    assert ended.returncode == 0
    assert "[bold]odd[/x]" in ended.stdout
    assert "\x1b" not in ended.stdout


def test_version(tmp_path):
    assert run("--version", cwd=tmp_path).stdout == f"largeforge {largeforge.__version__}\n"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["+recipe=quickstrat"], ["command line: recipe = 'quickstrat'", "Did you mean 'quickstart'?"]),
        (["quickstart"], ["'quickstart'", "Did you mean '+recipe=quickstart'?"]),
        (["chek"], ["'chek'", "Did you mean 'check'?"]),
        (["chek", "recipes", "--json"], ["'chek'", "Did you mean 'check'?"]),
        (["mode=plan"], ["choose one with +recipe=NAME", "quickstart"]),
        (
            ["+recipe=quickstart", "hardware=rtx_4091"],
            ["command line: hardware = 'rtx_4091'", "Did you mean 'rtx_4090'?"],
        ),
        (["+recipe=sft_qwen7b", "+method.extra=[1]"], ["command line: method.extra = [1]", "a section of keys"]),
        (["+recipe=sft_qwen7b", "method=ppo"], ["command line: method = 'ppo'", "Did you mean 'dpo'?"]),
        (["+recipe=sft_qwen7b", "seed=[1"], ["command line: seed = '[1'", "cannot be read"]),
        (["+recipe=sft_qwen7b", "seed=1,2"], ["command line: seed = '1,2'", "need -m"]),
        (["+recipe=sft_qwen7b", "oh dear"], ["'oh dear'", "expected key=value"]),
        (["+recipe=my_expert"], ["recipes/my_expert.yaml: dataset.path: is required: give it with dataset.path=…"]),
        (["+recipe=quickstart", "hosts=far"], ["command line: hosts = 'far'", "there is: lab, local"]),
        (["+recipe=quickstart", "mode=paln"], ["command line: mode = 'paln'", "Did you mean 'plan'?"]),
        (["--cfg", "job", "+recipe=nope"], ["command line: recipe = 'nope'"]),
        (["-m", "+recipe=quickstart,nope", "mode=plan"], ["command line: recipe = 'nope'"]),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_message(tmp_path, words, parts):
    message = refused(*words, cwd=tmp_path)
    for part in parts:
        assert part in message


def test_mistakes_in_yaml_and_on_the_command_line_come_at_once(own):
    path = own / "recipes" / "mine.yaml"
    path.write_text(path.read_text() + "seeed: 1\nadapter:\n  lora_r: -1\n")
    message = refused("+recipe=mine", "method.lr=1", "gateway.port=http", cwd=own)
    assert message.startswith("error: 4 problems in the recipe:\n")
    assert "  - recipes/mine.yaml:13: seeed = 1: unknown key; there is: " in message
    assert "Did you mean 'seed'?" in message
    assert "  - recipes/mine.yaml:15: adapter.lora_r = -1: " in message
    assert "  - command line: method.lr = 1: unknown key; there is: " in message
    assert "  - command line: gateway.port = 'http': " in message


def test_a_broken_file_is_named_with_its_line(own):
    (own / "recipes" / "mine.yaml").write_text("name: mine\nmodel: [\n")
    assert "recipes/mine.yaml:3: YAML: not valid YAML" in refused("+recipe=mine", cwd=own)


def test_plan_of_a_recipe_in_the_working_directory(own):
    ended = run("+recipe=mine", "mode=plan", "description=my first one", cwd=own)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "on 1 × My GPU (80 GiB), 8 CPU cores" in ended.stdout
    assert "recipe:data/rows.jsonl" in ended.stdout
    assert ended.stdout.splitlines()[-1].endswith(
        "Run it: python -m largeforge +recipe=mine 'description=my first one'"
    )
    assert not (own / "runs").exists()


@pytest.mark.parametrize("typed", ["recipe=mine", "+recipe=recipes/mine.yaml", "+recipe=./recipes/mine.yaml"])
def test_a_recipe_may_be_typed_in_other_ways(own, typed):
    assert run(typed, "mode=plan", cwd=own).returncode == 0


def test_hosts_of_the_working_directory(own):
    message = refused("+recipe=mine", "hosts=lab", cwd=own)
    assert "hardware.num_gpus: is required for a training on one: how many GPUs of a host it takes." in message
    message = refused("+recipe=mine", "hosts=lab", "hardware=auto", cwd=own)
    assert "hardware = auto: reads this machine, and the training runs on one: name what is there" in message
    ended = run("+recipe=mine", "hosts=lab", "hardware.num_gpus=1", "mode=plan", cwd=own)
    assert ended.returncode == 0, ended.stderr


def test_help(own):
    ended = run("--help", cwd=own)
    assert ended.returncode == 0
    assert re.search(r"^hardware: .*auto, .*cpu, .*mybox, ", ended.stdout, re.MULTILINE)
    assert re.search(r"^recipe: .*dpo_qwen7b, .*mine, ", ended.stdout, re.MULTILINE)


def test_cfg_job_prints_the_composed_recipe(own):
    ended = run("--cfg", "job", "+recipe=mine", "method.learning_rate=3e-4", cwd=own)
    assert ended.returncode == 0
    assert "learning_rate: 0.0003" in ended.stdout
    assert "hydra:" not in ended.stdout


@pytest.mark.parametrize("words", [["--nope"], ["--cfg"], ["-m", "--cfg", "job"]], ids=" ".join)
def test_a_wrong_flag_is_no_crash(own, words):
    ended = run(*words, cwd=own)
    assert ended.returncode == 2
    assert "error: " in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "words",
    [["mode=plan"], ["-m", "mode=plan"], ["--cfg", "job"], ["--cfg", "all", "--resolve"], ["--info", "all"]],
    ids=" ".join,
)
def test_a_strangers_recipe_runs_nothing(own, words):
    """Neither in planning nor where Hydra itself is in charge, whose configuration may name code."""
    touch = f"{{_target_: subprocess.getoutput, _args_: ['touch {own}/ran']}}"
    (own / "conf" / "hydra" / "launcher").mkdir(parents=True)
    (own / "conf" / "hydra" / "launcher" / "evil.yaml").write_text(f"_target_: evil.Evil\nx: {touch}\n")
    (own / "evil.py").write_text(f"open('{own}/ran', 'w')\nclass Evil: pass\n")
    (own / "yaml.py").write_text(f"open('{own}/ran', 'w')\n")
    (own / "hydra_plugins").mkdir()
    (own / "hydra_plugins" / "evil.py").write_text(f"open('{own}/ran', 'w')\n")
    for text in (
        f"name: evil\nhydra: {{callbacks: {{a: {touch}}}}}\n",
        "name: evil\nhydra: {callbacks: {a: {_target_: evil.Evil}}, run: {dir: elsewhere}}\n",
        "name: evil\ndefaults:\n  - override /hydra/launcher: evil\n",
        "name: evil\nhydra: {searchpath: ['pkg://evil']}\n",
    ):
        (own / "recipes" / "evil.yaml").write_text(text)
        message = refused(*words, "+recipe=evil", cwd=own)
        assert "cannot configure Hydra" in message
    assert not (own / "ran").exists()
    assert not (own / "elsewhere").exists()


def test_a_recipe_does_not_steer_the_terminal(own):
    (own / "recipes" / "mine.yaml").write_text('name: "\\e[31m"\n')
    assert "\x1b" not in refused("+recipe=mine", cwd=own)


def test_a_reader_that_leaves_early_is_no_error(own):
    command = f"{sys.executable} -m largeforge +recipe=quickstart mode=plan | true"
    ended = subprocess.run(["bash", "-c", command], cwd=own, capture_output=True, text=True, timeout=60)
    assert ended.stderr == ""


def test_a_folder_that_is_gone(tmp_path):
    command = (
        f'mkdir gone && cd gone && rmdir ../gone && "{sys.executable}" -P -m largeforge +recipe=quickstart mode=plan'
    )
    ended = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr


def test_output_without_unicode(own):
    ended = run("+recipe=mine", "mode=plan", cwd=own, PYTHONIOENCODING="ascii")
    assert ended.returncode == 0


def test_the_console_script(own):
    script = Path(sys.executable).with_name("largeforge")
    ended = subprocess.run([script, "+recipe=mine", "mode=plan"], cwd=own, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0


@pytest.mark.e2e
def test_an_installed_wheel_finds_its_recipes(own, tmp_path_factory):
    """A wheel in a fresh environment, with the dependencies of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("largeforge", "conf", "recipes", "hosts", "requirements"):
        shutil.copytree(shipped_root() / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(shipped_root() / name, source)
    around = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    call = {"check": True, "capture_output": True, "timeout": 300, "env": around}
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source], **call
    )
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], **call)
    (packages,) = (folder / "venv").glob("lib/*/site-packages")
    subprocess.run([sys.executable, "-m", "pip", "install", "--no-deps", "--target", packages, wheel], **call)
    python = folder / "venv" / "bin" / "python"
    own_packages = Path(pytest.__file__).parents[1]
    (packages / "dependencies.pth").write_text(f"{own_packages}\n")
    where = subprocess.run([python, "-c", "import largeforge; print(largeforge.__file__)"], cwd=own, text=True, **call)
    assert where.stdout.startswith(str(packages))
    assert (packages / "largeforge" / "shipped" / "recipes" / "quickstart.yaml").is_file()
    assert "quickstart" in run(cwd=own, python=[python]).stdout
    for recipe, data in (("quickstart", "recipe:data/quickstart/general.jsonl"), ("mine", "recipe:data/rows.jsonl")):
        ended = run(f"+recipe={recipe}", "mode=plan", cwd=own, python=[python], COLUMNS="200")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert data in ended.stdout
