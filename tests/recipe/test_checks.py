"""Relations between sections of a recipe."""

from __future__ import annotations

import pytest

JOBS = """\
defaults:
{choices}
  - /topology: single
  - /router: keyword
  - _self_
name: mine
topology:
  experts:
    general:
      model: path:/m
jobs:
  base:
    model: {{ref: 'hub:a/b'}}
    dataset: {{path: a.jsonl}}
    adapter: {{name: none}}
  expert:
    model: {{ref: 'job:base'}}
    dataset: {{path: a.jsonl}}
    adapter: {{name: lora}}
"""
JOBS = JOBS.format(
    choices="\n".join(
        f"  - /{group}@jobs.{job}.{group}: {choice}"
        for job in ("base", "expert")
        for group, choice in {"dataset": "jsonl", "method": "sft", "evaluation": "loss"}.items()
    )
)


def found(folder, text, *overrides):
    folder.write(text)
    return {problem.key: problem for problem in folder.problems(*overrides)}


def test_a_sound_recipe_passes(folder):
    folder.write(JOBS)
    recipe = folder.recipe("topology.experts.own={model:job:expert/train,adapter_on:general}")
    assert list(recipe.training_jobs) == ["base", "expert"]


@pytest.mark.parametrize(
    ("overrides", "key", "rule", "nearest"),
    [
        (["jobs.expert.model.ref=job:bse"], "jobs.expert.model.ref", "no such job; there is: base, expert", "base"),
        (["jobs.expert.model.ref=job:expert"], "jobs.expert.model.ref", "would start from itself", ""),
        (["jobs.base.model.ref=job:expert"], "jobs.base.model.ref", "would start from itself", ""),
        (["jobs.expert.model.ref=job:base/merge"], "jobs.expert.model.ref", "does not merge", ""),
        (["jobs.base.merge=true"], "jobs.base.merge", "no adapter to merge", ""),
        (["jobs.base.model.ref=tiny:x"], "jobs.base.model.architecture", "is required", ""),
        (["jobs.expert.gates.los=< 1"], "jobs.expert.gates.los", "there is: loss, perplexity", "loss"),
        (["jobs.expert.gates.loss=one"], "jobs.expert.gates.loss", "comparison with a number", ""),
        (["jobs.expert.gates.loss=> nan"], "jobs.expert.gates.loss", "comparison with a number", ""),
        (["jobs.expert.gates.loss=< 1e999"], "jobs.expert.gates.loss", "comparison with a number", ""),
        (
            ["evaluation@jobs.expert.evaluation=preference_accuracy"],
            "jobs.expert.evaluation.preference_accuracy",
            "judges preference rows, but sft has",
            "",
        ),
        (["jobs.expert.evaluation.base={name:loss}"], "jobs.expert.evaluation.base", "begin the names of", ""),
        (
            ["jobs.expert.evaluation.mine={name:loss}", "jobs.expert.gates.los=< 1"],
            "jobs.expert.gates.los",
            "loss, perplexity, mine.loss, mine.perplexity, vs_base.loss, vs_base.perplexity, vs_base.mine.loss",
            "loss",
        ),
        (
            ["jobs.expert.evaluation.safety={name:refusal}", "jobs.expert.gates.safety.refusal_rate=> 0"],
            "jobs.expert.evaluation.safety.path",
            "JSONL file of prompts",
            "",
        ),
        (
            ["evaluation@jobs.expert.evaluation=code"],
            "jobs.expert.evaluation.code.allow_execution",
            "to run what a model writes",
            "",
        ),
        (["jobs.base.register_as=m", "jobs.expert.register_as=m"], "jobs.expert.register_as", "job base registers", ""),
        (["jobs.base.register_alias=Latest"], "jobs.base.register_alias", "an alias is a word", ""),
        (["jobs.base.register_alias=v7"], "jobs.base.register_alias", "an alias is a word", ""),
        (["topology.fallback=genral"], "topology.fallback", "must be an expert", "general"),
        (["topology.experts.general.model=qwen"], "topology.experts.general.model", "no such model", ""),
        (["topology.experts.general.model=hug:x"], "topology.experts.general.model", "begins with one of", ""),
        (["topology.experts.general.model=tiny:x"], "topology.experts.general.model", "random weights", ""),
        (["topology.experts.general.model=job:exprt"], "topology.experts.general.model", "no such job", "expert"),
        (["topology.experts.general.model=job:expert"], "topology.experts.general.adapter_on", "makes an adapter", ""),
        (["topology.experts.general.adapter_on=general"], "topology.experts.general.adapter_on", "another expert", ""),
        (
            ["topology.experts.a={model:path:/a,adapter_on:b}", "topology.experts.b={model:path:/b,adapter_on:a}"],
            "topology.experts.a.adapter_on",
            "is itself an adapter",
            "",
        ),
        (
            ["topology.experts.a={model:job:base,adapter_on:general}"],
            "topology.experts.a.adapter_on",
            "a whole model, not an adapter",
            "",
        ),
        (
            [
                "topology.experts.general.model=job:expert/merge",
                "topology.experts.a={model:job:expert,adapter_on:general}",
            ],
            "topology.experts.a.adapter_on",
            "was trained on job:base, but general serves job:expert/merge",
            "",
        ),
        (
            ["verify.questions=[{prompt:hi,expert:genral}]"],
            "verify.questions.0.expert",
            "must be an expert of the topology: general",
            "general",
        ),
        (["~router"], "router", "is required to serve", ""),
        (["hosts.hosts.far.address=10.0.0.1"], "hardware", "reads this machine, and the training runs on far", ""),
        (["+model=tiny_general", "+dataset=jsonl", "dataset.path=a", "+method=sft"], "jobs", "not both", ""),
    ],
)
def test_a_wrong_relation_is_found(folder, overrides, key, rule, nearest):
    problem = found(folder, JOBS, *overrides)[key]
    assert rule in problem.rule
    assert problem.nearest == nearest
    assert problem.where


def test_all_come_at_once_with_their_places(folder):
    text = JOBS.replace("job:base", "job:bas")
    problems = found(folder, text, "topology.fallback=genral", "jobs.base.gates.exact_match=> 1")
    assert {key: problem.where for key, problem in problems.items()} == {
        "jobs.expert.model.ref": "recipes/mine.yaml:22",
        "topology.fallback": "command line",
        "jobs.base.gates.exact_match": "command line",
    }


def test_a_recipe_must_do_something(folder):
    assert "nothing to do" in found(folder, "name: mine\n")["recipe"].rule


def test_part_of_a_training_job_is_not_enough(folder):
    problems = found(folder, "defaults:\n  - /method: sft\nname: mine\n")
    assert "the recipe has method" in problems["model"].rule
    assert "+dataset=" in problems["dataset"].rule


def test_serving_needs_a_topology(folder):
    assert "needs a topology" in found(folder, folder.trains, "serve=true")["serve"].rule


def test_an_adapter_needs_a_trained_model(folder):
    text = folder.trains.replace("qwen2_5_7b_instruct", "tiny_general")
    assert "learns nothing" in found(folder, text)["adapter"].rule
