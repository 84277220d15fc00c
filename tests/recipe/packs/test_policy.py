"""What a pack may say: everything else is refused with file and line, and nothing of it happens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from largeforge.recipe import folders
from tests.recipe.packs.conftest import METHOD, RECIPE

HEAD = "# @package _global_\n# X.\ndefaults:\n  - support_bot\n  - _self_\nname: x\n"
HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("environment: {python: /tmp/evil}", "environment.python"),
        ("environment.python: /tmp/evil", "environment.python"),
        ("environment: {}", "environment"),
        ("environment: ${model}", "environment"),
        ("serving: {python: /tmp/evil}", "serving.python"),
        ("serving: {extra: {trust-remote-code: true}}", "serving.extra.trust-remote-code"),
        ("serving: {extra: {tool-parser-plugin: evil.py}}", "serving.extra.tool-parser-plugin"),
        ("serving: {extra: {chat-template: evil.jinja}}", "serving.extra.chat-template"),
        ("serving: {extra: {quantization: awq --trust-remote-code}}", "serving.extra.quantization"),
        ("serving: {extra: '${gates}'}", "serving.extra"),
        ("runs: {root: /tmp/evil}", "runs.root"),
        ("registry: {uri: 'http://evil.example'}", "registry.uri"),
        ("registry: {artifacts: /tmp/evil}", "registry.artifacts"),
        ("hosts: {hosts: {a: {address: evil.example}}}", "hosts.hosts.a.address"),
        ("gateway: {host: 0.0.0.0}", "gateway.host"),
        ("launcher: {name: slurm}", "launcher.name"),
        ("launcher: {setup: [touch /tmp/evil]}", "launcher.setup"),
        ("launcher: {num_processes: 100}", "launcher.num_processes"),
        ("sweep: {params: {environment.python: /tmp/evil}}", "sweep.params.environment.python"),
        ("mode: run", "mode"),
        ("model: {ref: 'path:/etc'}", "model.ref"),
        ("model: {ref: 'run:/etc/x'}", "model.ref"),
        ("model: {ref: '${description}'}", "model.ref"),
        ("model: {ref: 'pa${name}'}", "model.ref"),
        ("topology: {experts: {a: {model: 'path:/etc'}}}", "topology.experts.a.model"),
        ("topology: {experts: {a: {model: '${description}'}}}", "topology.experts.a.model"),
        ("dataset: {path: /etc/passwd}", "dataset.path"),
        ("dataset: {path: secrets.jsonl}", "dataset.path"),
        ("dataset: {path: '~/secrets.jsonl'}", "dataset.path"),
        ("dataset: {path: 'recipe:../../secrets.jsonl'}", "dataset.path"),
        ("dataset: {path: 'recipe:/etc/passwd'}", "dataset.path"),
        ("dataset: {heldout_path: '${description}'}", "dataset.heldout_path"),
        ("dataset: {path: 'pack:other/data/rows.jsonl'}", "dataset.path"),
        ("dataset: {path: ['recipe:data/a.jsonl', secrets.jsonl]}", "dataset.path.1"),
        ("dataset: {path: ['recipe:../secrets.jsonl']}", "dataset.path.0"),
        ("dataset: {mix: {a: {path: 's3://bucket/rows.jsonl'}}}", "dataset.mix.a.path"),
        ("dataset: {mix: {a: {path: ['${description}']}}}", "dataset.mix.a.path.0"),
        ("evaluation: {x: {name: code, allow_execution: true}}", "evaluation.x.allow_execution"),
        ("evaluation: {x: {name: judge, endpoint: 'http://evil/v1'}}", "evaluation.x.endpoint"),
        ("evaluation: {x: {name: judge, api_key_env: AWS_SECRET_ACCESS_KEY}}", "evaluation.x.api_key_env"),
        ("evaluation: {x: {name: lm_eval, include_path: 'recipe:tasks'}}", "evaluation.x.include_path"),
        ("evaluation: {x: {name: refusal, path: /etc/passwd}}", "evaluation.x.path"),
        ("model: {chat_template: /etc/passwd}", "model.chat_template"),
        ("model: {chat_template: secrets.jinja}", "model.chat_template"),
        ("models: {a: {chat_template: 'recipe:../x.jinja'}}", "models.a.chat_template"),
        ("description: 'goes to ${registry.uri}'", "description"),
        ("method: {script: evil}", "method.script"),
        ("method: {optim: 'https://evil.example'}", "method.optim"),
        (
            "method: {extra: {generation_kwargs: {custom_generate: evil/code}}}",
            "method.extra.generation_kwargs.custom_generate",
        ),
        ("method.extra.vllm_server_host: evil", "method.extra.vllm_server_host"),
        ("jobs: {a: {method: {extra: {lr_scheduler_kwargs: {a: b/c}}}}}", "jobs.a.method.extra.lr_scheduler_kwargs.a"),
        ("method: {extra: '${gates}'}\ngates: {generation_kwargs: x}", "method.extra"),
        ("method: '${gates}'\ngates: {extra: {generation_kwargs: x}}", "method"),
        ("jobs: {a: '${gates}'}\ngates: {method: {name: sft}}", "jobs.a"),
        ("adapter: {lora_target_modules: [../x]}", "adapter.lora_target_modules.0"),
        ("gates: &g {python: a}\nserving: {<<: *g}", "serving.python"),
        ("verify: {questions: [{prompt: a, url: b}]}", "verify.questions.0.url"),
        ("router: {name: embedding, url: 'http://evil.example'}", "router.url"),
        ("router: {name: chain, routers: {a: {name: classifier, path: /etc/passwd}}}", "router.routers.a.path"),
        ("routing: {path: rows.jsonl}", "routing.path"),
        ("routing: {heldout_path: {general: ['recipe:data/a.jsonl', ../b.jsonl]}}", "routing.heldout_path.general.1"),
    ],
)
def test_a_key_that_is_not_a_packs_business_is_refused(compose_hostile, line, key):
    code, out, err = compose_hostile({"recipes/x.yaml": f"{HEAD}{line}\n"})
    assert (code, out) == (2, "")
    assert f"recipes/x.yaml:7: {key}" in err, err
    assert "pack" in err


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        ("/environment: current", "cannot choose in this group"),
        ("override /environment: current", "cannot choose in this group"),
        ("override /hosts: local", "cannot choose in this group"),
        ("override /launcher: slurm", "can only choose single, ddp"),
        ("override /launcher: multi_node", "can only choose single, ddp"),
        ("/registry@model: local", "cannot choose in this group"),
        ("/gateway: default", "cannot choose in this group"),
        ("optional /method: sft", "not optional"),
        ("method: sft", "begins with a slash"),
        ("/recipe: quickstart", "to build on a recipe"),
        ("/hydra/launcher: basic", "cannot configure Hydra"),
        ("/method: ../../../../etc/passwd", "cannot be computed"),
        ("/method: ${oc.env:HOME}", "cannot be computed"),
        ("/method: beta/foo", "no such method in the pack or in LargeForge"),
        ("/model@environment: qwen2_5_7b_instruct", "cannot put"),
        ("/dataset@runs: shop", "a pack may not set this"),
    ],
)
def test_a_choice_that_is_not_a_packs_business_is_refused(compose_hostile, entry, rule):
    override = entry.startswith("override")
    lines = ["support_bot", "_self_", entry] if override else ["support_bot", entry, "_self_"]
    text = "# @package _global_\n# X.\ndefaults:\n" + "".join(f"  - {line}\n" for line in lines) + "name: x\n"
    code, out, err = compose_hostile({"recipes/x.yaml": text})
    assert (code, out) == (2, "")
    assert rule in err, err
    assert "x.yaml" in err or "shop.yaml" in err


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("name: x\nmodel: {_target_: os.system, command: touch marker}\n", "cannot name code"),
        ("name: !!python/object/apply:os.system [touch marker]\n", "YAML tags are not allowed"),
        ("name: ${oc.env:HOME}\n", "one plain reference"),
        ("name: ${oc.create:x}\n", "one plain reference"),
        ("hydra: {run: {dir: /tmp/evil}}\n", "cannot configure Hydra"),
        ("name: 1" + ":1" * 300_000 + "\n", "a number has at most"),
        ("a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*{'a' if not i else f'b{i - 1}'}, *a]\n" for i in range(2000)),
         "aliases counted in full"),
        ("".join(f"k{i}: 1\n" for i in range(30_000)), "brings in 1 files with 60002 values"),
        ("name: [" + "[" * 5000, "deeper than 40"),
        ("defaults: [x]\nname: x\n", "leads back"),
        ("defaults: [y]\nname: x\n", "leads back"),
    ],
)  # fmt: skip
def test_what_acts_or_multiplies_is_refused(compose_hostile, text, rule, work):
    code, out, err = compose_hostile({"recipes/x.yaml": text, "recipes/y.yaml": "defaults: [x]\nname: y\n"})
    assert (code, out) == (2, "")
    assert rule in err, err[:2000]
    assert "x.yaml" in err or "y.yaml" in err
    assert len(err) < 20_000
    assert not (work.path / "marker").exists()


def test_files_that_include_each_other_many_times_are_refused_before_hydra_follows_them(compose_hostile):
    bomb = {f"recipes/r{i}.yaml": f"defaults: [r{i + 1}, r{i + 1}]\nname: x\n" for i in range(18)}
    code, out, err = compose_hostile({**bomb, "recipes/r18.yaml": "name: x\n", "recipes/x.yaml": "defaults: [r0]\n"})
    assert (code, out) == (2, "")
    assert "at most 1000 and 20000 are composed" in err


def test_the_same_name_as_a_shipped_choice_is_an_error_and_never_hides_either(compose_hostile):
    recipe = RECIPE.replace("/method: short", "/method: sft")
    code, out, err = compose_hostile({"conf/method/sft.yaml": "name: sft\nmax_steps: 1\n", "recipes/x.yaml": recipe})
    assert (code, out) == (2, "")
    assert "recipes/x.yaml:6: method = 'sft': is a method of this pack and one of" in err


def test_a_pack_cannot_reach_a_choice_that_uses_its_own_section_elsewhere(compose_hostile):
    evil = {"conf/thing/z.yaml": "python: /tmp/evil\n"}
    text = RECIPE.replace("  - override", "  - /thing@environment: z\n  - override")
    code, _, err = compose_hostile({**evil, "recipes/x.yaml": text})
    assert code == 2
    assert "conf/thing/z.yaml:1: environment.python: a pack may not set this" in err


def test_a_package_line_leads_to_no_forbidden_section(compose_hostile):
    text = RECIPE.replace("  - override", "  - /thing: z\n  - override")
    code, _, err = compose_hostile({"conf/thing/z.yaml": "# @package environment\npython: a\n", "recipes/x.yaml": text})
    assert code == 2
    assert "conf/thing/z.yaml:2: environment.python: a pack may not set this" in err


def test_the_command_line_and_own_recipes_may_say_what_a_pack_may_not(using):
    using.write("recipes/mine.yaml", "# @package _global_\ndefaults: [acme/support_bot, _self_]\nruns: {root: mine}\n")
    assert "to do" in using.ok("+recipe=mine", "mode=plan", "gateway.host=0.0.0.0", "environment.python=/x")
    assert "to do" in using.ok("+recipe=acme/support_bot", "mode=plan", "dataset.path=rows.jsonl")


def test_a_pack_may_set_numbers_and_switches_of_trl(compose_hostile):
    text = f"{HEAD}method: {{extra: {{adam_beta2: 0.95, full_determinism: true, lr_scheduler_kwargs: {{}}}}}}\n"
    code, _, err = compose_hostile({"recipes/x.yaml": text, "conf/method/short.yaml": f"{METHOD}extra: {{}}\n"})
    assert code == 0, err


def test_the_shipped_recipes_and_choices_are_within_what_a_pack_may_say(work, author, tmp_path):
    """What this project itself writes is what authors write: a fork of its recipes is a sound pack."""
    from largeforge.recipe.packs import check

    root = folders.shipped_root()
    taken = {"recipes/sft_qwen7b.yaml", "recipes/serve_qwen7b.yaml", "recipes/serve_gpt_oss_20b.yaml"}
    author.publish({name.replace(".yaml", "_fork.yaml"): (root / name).read_text() for name in sorted(taken)})
    assert check.problems(author.path) == []


def test_composing_a_hostile_pack_opens_nothing_else_and_starts_nothing(compose_hostile, tmp_path, work):
    """In a process whose every open, start and connection is looked at, with limited memory and time."""
    compose_hostile({"recipes/x.yaml": RECIPE, "conf/method/short.yaml": METHOD})
    program = f"""
import json, sys
sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
import largeforge.planning, largeforge.plan_view, largeforge.execute, hydra, omegaconf, rich.console, rich.table
from largeforge.cli import main
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate
from watched import watch
validate(compose(["+recipe=quickstart"]))
seen = watch(Path.cwd(), Path({str(tmp_path / "cache")!r}), cpu_s=30)
found = validate(compose(["+recipe=acme/x"]))
assert found.dataset.path.startswith({str(tmp_path / "cache")!r})
print(json.dumps(seen))
open("/etc/hostname").close()
assert seen[-1:] == ["open /etc/hostname 'r'"], seen
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=work.path, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == []


def test_mutated_packs_never_act_and_always_end(tmp_path):
    """A few hundred packs of mutated YAML, in one limited and watched process."""
    (tmp_path / "here").mkdir()
    argv = [sys.executable, str(HERE / "fuzz.py"), str(tmp_path), "120"]
    ran = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path / "here", timeout=300)
    assert ran.returncode == 0, ran.stderr[-3000:]
    counts = json.loads(ran.stdout.splitlines()[-1])
    assert counts["composed"] > 5, counts
    assert counts["refused"] > 50, counts


def test_the_page_on_packs_lists_what_a_pack_may_say():
    from largeforge.recipe.packs import policy
    from largeforge.recipe.schema import Recipe

    page = (HERE.parents[2] / "docs" / "packs.md").read_text(encoding="utf-8")
    words = {pattern.split(".")[0] for pattern in policy.ALLOWED} | set(policy.VLLM_OPTIONS) | set(policy.CHOSEN_GROUPS)
    words |= set(policy.TRL_FIELDS)
    assert {word for word in words - {"recipe"} if f"`{word}" not in page} == set()
    refused = {"environment", "runs", "registry", "hosts", "gateway", "sweep"}
    assert {pattern.split(".")[0] for pattern in policy.ALLOWED} <= set(Recipe.model_fields)
    assert not refused & {pattern.split(".")[0] for pattern in policy.ALLOWED}
