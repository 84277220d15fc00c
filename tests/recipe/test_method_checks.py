"""Settings of methods that make no sense together, and further fields of trl under `method.extra`."""

from __future__ import annotations

import json

import pytest

from largeforge.recipe import trl_fields

METHODS = {
    "dpo": ("preference_jsonl", "preference_accuracy"),
    "kto": ("jsonl", "label_auc"),
    "reward": ("preference_jsonl", "reward_accuracy"),
    "sft": ("jsonl", "loss"),
    "pretrain": ("jsonl", "loss"),
    "orpo": ("preference_jsonl", "preference_accuracy"),
}


def recipe(folder, method="dpo", more=""):
    """Write a recipe that trains with a method."""
    dataset, evaluation = METHODS[method]
    text = folder.trains.replace("/dataset: jsonl", f"/dataset: {dataset}").replace(
        "/method: sft", f"/method: {method}"
    )
    return folder.write(text.replace("/evaluation: loss", f"/evaluation: {evaluation}") + more)


def only(folder, *overrides):
    problems = folder.problems(*overrides)
    assert len(problems) == 1, problems
    return problems[0]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_evaluation(folder, method):
    recipe(folder, method)
    assert folder.recipe().method.name == method


def test_any_other_field_of_trl_may_be_set(folder):
    extra = "{ld_alpha: 0.5, f_divergence_type: js_divergence, lr_scheduler_kwargs: {num_cycles: 2}, adam_beta2: 0.95}"
    recipe(folder, "dpo", f"method:\n  extra: {extra}\n")
    assert folder.recipe().method.extra["ld_alpha"] == 0.5


@pytest.mark.parametrize(
    ("extra", "key", "rule", "nearest"),
    [
        ("{ld_alfa: 0.5}", "ld_alfa", "trl's DPOConfig has no such field", "ld_alpha"),
        ("{packing: true}", "packing", "trl's DPOConfig has no such field", ""),
        ("{ld_alpha: much}", "ld_alpha", "must be float or null, as in trl's DPOConfig", ""),
        ("{ref_model_sync_steps: 1.5}", "ref_model_sync_steps", "must be int,", ""),
        ("{use_weighting: 1}", "use_weighting", "must be bool,", ""),
        ("{train_sampling_strategy: sequentiell}", "train_sampling_strategy", "must be one of random, ", "sequential"),
        ("{beta: 0.2}", "beta", "set method.beta instead", ""),
        ("{learning_rate: 1e-3}", "learning_rate", "set method.learning_rate instead", ""),
        ("{report_to: wandb}", "report_to", "set tracking= instead", ""),
        ("{hub_token: hf_1}", "hub_token", "secrets have no place in a recipe", ""),
        ("{push_to_hub: true}", "push_to_hub", "nothing is uploaded", ""),
        ("{output_dir: /tmp/x}", "output_dir", "in its own folder", ""),
        ("{resume_from_checkpoint: /x}", "resume_from_checkpoint", "no longer go on exactly", ""),
        ("{deepspeed: zero3.json}", "deepspeed", "set launcher= instead", ""),
        ("{model_init_kwargs: {trust_remote_code: true}}", "model_init_kwargs", "set model= instead", ""),
        ("{seed: 1}", "seed", "set seed at the top of the recipe", ""),
        ("{padding_free: true}", "padding_free", "no padding-free DPO", ""),
        ("{sync_ref_model: true}", "sync_ref_model", "use adapter=none", ""),
    ],
)
def test_a_wrong_field_is_named_with_file_and_line(folder, extra, key, rule, nearest):
    recipe(folder, "dpo", f"method:\n  extra: {extra}\n")
    problem = only(folder)
    assert problem.key == f"method.extra.{key}"
    assert rule in problem.rule
    assert problem.nearest == nearest
    assert problem.where == "recipes/mine.yaml:15"


def test_what_the_arguments_set_cannot_be_set_twice():
    """All that is passed to trl is either a setting of the method, or refused, or left to the method on purpose."""
    from pathlib import Path

    from largeforge.methods.sft import Config
    from largeforge.recipe.method_extra import OWNED
    from largeforge.training.arguments import arguments

    given = arguments(Config(), device="cpu", seed=1, folder=Path("x"), evaluates=True)
    left = {"per_device_eval_batch_size"}
    assert set(given) - set(Config.model_fields) - set(OWNED) == left


def test_without_trl_it_is_checked_where_the_training_runs(folder, monkeypatch):
    monkeypatch.setattr(trl_fields, "fields", lambda config: None)
    recipe(folder, "dpo", "method:\n  extra: {no_such: 1}\n")
    assert folder.recipe().method.extra == {"no_such": 1}


@pytest.mark.parametrize(
    ("method", "settings", "key", "rule"),
    [
        ("dpo", "loss_type: sigmoyd", "loss_type", "did you mean 'sigmoid'?"),
        ("dpo", "loss_type: [sigmoid, stf]", "loss_type", "did you mean 'sft'?"),
        ("dpo", "loss_type: []", "loss_type", "at least one loss"),
        ("dpo", "{loss_type: [sigmoid, sft], loss_weights: [1.0]}", "loss_weights", "one weight for each of 2"),
        ("dpo", "loss_type: exo_pair", "label_smoothing", "must be above 0"),
        ("dpo", "packing: true", "packing", "unknown key"),
        ("kto", "per_device_train_batch_size: 1", "per_device_train_batch_size", "must be 2 or more"),
        ("kto", "extra: {train_sampling_strategy: random}", "extra.train_sampling_strategy", "must be sequential"),
        ("kto", "{desirable_weight: 0, undesirable_weight: 0}", "desirable_weight", "nothing is learnt"),
        ("sft", "{packing: true, packing_strategy: wrapped, padding_free: true}", "padding_free", "full already"),
        ("sft", "loss_type: chunked_nll", "loss_type", "must be one of nll, dft"),
        ("reward", "sample_steps: 10", "sample_steps", "does not write"),
    ],
)
def test_settings_that_make_no_sense_are_refused(folder, method, settings, key, rule):
    body = settings if settings.startswith("{") else f"{{{settings}}}"
    recipe(folder, method, f"method: {body}\n")
    found = {problem.key: problem.rule for problem in folder.problems()}
    assert rule in found[f"method.{key}"]


def test_losses_of_dpo_may_be_one_or_several(folder):
    recipe(folder, "dpo", "method: {loss_type: [sigmoid, bco_pair, sft], loss_weights: [0.8, 0.2, 1.0]}\n")
    assert folder.recipe().method.losses == ["sigmoid", "bco_pair", "sft"]
    assert folder.recipe("method.loss_type=ipo", "method.loss_weights=[]").method.losses == ["ipo"]


REWARD = """\
# @package _global_
defaults:
{choices}
  - _self_
name: mine
jobs:
  judge:
    model: {{ref: 'hub:a/b'}}
    dataset: {{path: a.jsonl}}
    adapter: {{name: none}}
  writer:
    model: {{ref: 'hub:a/b'}}
    dataset: {{path: a.jsonl}}
    adapter: {{name: none}}
"""


def reward_and_writer(folder, more=()):
    lines = [
        f"  - /{group}@jobs.{job}.{group}: {choice}"
        for job, method in (("judge", "reward"), ("writer", "dpo"))
        for group, choice in zip(
            ("method", "dataset", "evaluation"), (method, *METHODS[method]), strict=True
        )
    ]  # fmt: skip
    folder.write(REWARD.format(choices="\n".join([*lines, *more])))


@pytest.mark.parametrize(
    ("overrides", "key", "rule"),
    [
        (["jobs.writer.model.ref=job:judge"], "jobs.writer.model.ref", "job judge makes a reward model"),
        (
            ["evaluation@jobs.judge.evaluation=preference_accuracy"],
            "jobs.judge.evaluation.preference_accuracy",
            "use reward_accuracy",
        ),
        (
            ["evaluation@jobs.writer.evaluation=reward_accuracy"],
            "jobs.writer.evaluation.reward_accuracy",
            "judges reward models, and dpo makes none",
        ),
        (
            ["evaluation@jobs.writer.evaluation=label_auc"],
            "jobs.writer.evaluation.label_auc",
            "judges unpaired rows, but dpo has preference rows",
        ),
        (
            ["+topology=single", "+router=keyword", "topology.experts.general.model=job:judge"],
            "topology.experts.general.model",
            "not served as an expert",
        ),
    ],
)
def test_a_model_that_scores_does_not_write(folder, overrides, key, rule):
    reward_and_writer(folder)
    assert rule in {problem.key: problem.rule for problem in folder.problems(*overrides)}[key]


def test_a_reward_model_may_start_from_another(folder):
    reward_and_writer(folder)
    changed = ["method@jobs.writer.method=reward", "evaluation@jobs.writer.evaluation=reward_accuracy"]
    found = folder.recipe(*changed, "jobs.writer.model.ref=job:judge")
    assert found.jobs["writer"].model.ref == "job:judge"


def files(path, name, content):
    (path / "model").mkdir(exist_ok=True)
    (path / "model" / name).write_text(json.dumps(content))
    return f"path:{path}/model"


SCORER = ("config.json", {"model_type": "qwen2", "architectures": ["Qwen2ForSequenceClassification"]})


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        (*SCORER, "is a reward model, which scores and does not write."),
        ("adapter_config.json", {"task_type": "CAUSAL_LM"}, "is an adapter, not a model; merge it"),
        ("adapter_config.json", {"task_type": "SEQ_CLS"}, "is an adapter, not a model; merge it"),
    ],
)
def test_a_training_starts_from_a_model_that_writes(folder, tmp_path, name, content, rule):
    recipe(folder)
    found = {p.key: p.rule for p in folder.problems(f"model.ref={files(tmp_path, name, content)}")}
    assert rule in found["model.ref"]


def test_a_reward_model_starts_from_another_that_is_a_folder(folder, tmp_path):
    recipe(folder, "reward")
    found = folder.recipe(f"model.ref={files(tmp_path, *SCORER)}")
    assert found.model.ref.startswith("path:")


@pytest.mark.parametrize("words", [["topology.experts.general.model={ref}"], ["+models.own.ref={ref}", "own"]])
def test_a_folder_with_a_reward_model_is_no_expert(folder, tmp_path, words):
    folder.write(folder.serves)
    ref = files(tmp_path, *SCORER)
    overrides = [word.format(ref=ref) for word in words]
    overrides = [f"topology.experts.general.model={word}" if word == "own" else word for word in overrides]
    assert (
        "not served as an expert"
        in {p.key: p.rule for p in folder.problems(*overrides)}["topology.experts.general.model"]
    )


@pytest.mark.parametrize("content", ["", "[]", '{"architectures": 7}', '{"architectures": {}}'])
def test_files_that_are_broken_are_left_to_those_who_load_them(folder, tmp_path, content):
    recipe(folder)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text(content)
    assert folder.recipe(f"model.ref=path:{tmp_path}/model")
