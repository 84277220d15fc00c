"""Models that methods, rewards and evaluators name: found, ordered, checked, and part of what a stage is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from largeforge.forecast.plan import with_forecasts
from largeforge.planning import make_plan

JOBS = """\
# @package _global_
defaults:
  - /dataset@jobs.student.dataset: jsonl
  - /method@jobs.student.method: distill
  - /adapter@jobs.student.adapter: none
  - /evaluation@jobs.student.evaluation: teacher_agreement
  - /dataset@jobs.policy.dataset: jsonl
  - /method@jobs.policy.method: grpo
  - /reward@jobs.policy.method.rewards: [reward_model, length]
  - /adapter@jobs.policy.adapter: none
  - /dataset@jobs.teacher.dataset: jsonl
  - /method@jobs.teacher.method: sft
  - /adapter@jobs.teacher.adapter: none
  - /dataset@jobs.judge.dataset: preference_jsonl
  - /method@jobs.judge.method: reward
  - /adapter@jobs.judge.adapter: lora
  - override /hardware: cpu
  - _self_
name: mine
hardware: {cores: 8}
jobs:
  policy:
    model: {ref: 'hub:a/b'}
    dataset: {path: a.jsonl}
    method: {rewards: {reward_model: {model: 'job:judge'}, length: {maximum: 9}}}
  student:
    model: {ref: 'hub:a/b'}
    dataset: {path: a.jsonl}
    method: {teacher: 'job:teacher'}
    evaluation: {teacher_agreement: {teacher: '${jobs.student.method.teacher}'}}
  teacher:
    model: {ref: 'hub:a/b'}
    dataset: {path: a.jsonl}
  judge:
    model: {ref: 'hub:a/b'}
    dataset: {path: a.jsonl}
"""
TEACHER = "jobs.student.method.teacher"
REWARD = "jobs.policy.method.rewards.reward_model.model"


def plan(folder, *overrides, text=JOBS):
    folder.write(text)
    return make_plan(folder.recipe(*overrides))


def stages(found):
    return {stage.name: stage for stage in found.stages}


def problems(folder, *overrides, text=JOBS):
    folder.write(text)
    return {problem.key: problem.rule for problem in folder.problems(*overrides)}


def model(path, name, **fields):
    config = {
        "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000, **fields,
    }  # fmt: skip
    folder = path / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(name.encode())
    return f"path:{folder}"


def test_a_job_stands_after_those_whose_models_it_needs(folder):
    found = plan(folder)
    trains = [stage.job for stage in found.stages if stage.kind == "train"]
    assert trains == ["teacher", "student", "judge", "policy"]
    by_name = stages(found)
    assert by_name["student.train"].inputs["job:teacher"] == "teacher.train"
    assert by_name["student.evaluate"].inputs["job:teacher"] == "teacher.train"
    assert by_name["policy.train"].inputs["job:judge"] == "judge.train"
    assert by_name["student.train"].threads == 4, "two jobs can train side by side once the others are done"


def test_another_teacher_is_another_training(folder):
    before, after = plan(folder), plan(folder, "jobs.teacher.method.max_steps=7")
    changed = {name for name, stage in stages(after).items() if stage.fingerprint != stages(before)[name].fingerprint}
    assert changed == {"teacher.train", "student.train", "student.evaluate"}


def test_the_content_of_a_teacher_counts(folder, tmp_path):
    teacher = model(tmp_path, "teacher")
    before = plan(folder, f"{TEACHER}={teacher}")
    assert stages(before)["student.train"].models == (teacher,)
    assert teacher in before.lock["models"]
    (tmp_path / "teacher" / "model.safetensors").write_bytes(b"other")
    after = plan(folder, f"{TEACHER}={teacher}")
    assert stages(before)["student.train"].fingerprint != stages(after)["student.train"].fingerprint
    assert before.digest != after.digest


def test_an_alias_may_move_so_that_nothing_is_taken_over(folder):
    found = stages(plan(folder, f"{TEACHER}=registry:wise@champion"))
    assert not found["student.train"].reusable
    assert not found["student.evaluate"].reusable
    assert found["policy.train"].reusable


@pytest.mark.parametrize(
    ("overrides", "key", "rule"),
    [
        ([f"{TEACHER}="], TEACHER, "is required: a model reference"),
        ([f"{TEACHER}=job:teachr"], TEACHER, "no such job; there is: student, policy, teacher, judge"),
        ([f"{TEACHER}=job:student"], TEACHER, "itself needs what job student makes"),
        ([f"{TEACHER}=job:policy", "jobs.policy.model.ref=job:student"], TEACHER, "needs what job student makes"),
        ([f"{TEACHER}=job:teacher/merge"], TEACHER, "does not merge its adapter"),
        ([f"{TEACHER}=tiny:x"], TEACHER, "random weights have nothing to say"),
        ([f"{TEACHER}=job:judge"], TEACHER, "makes a reward model, which scores and does not write"),
        ([f"{TEACHER}=registry:me@champion", "jobs.teacher.register_as=me"], TEACHER, "write job:teacher"),
        ([f"{REWARD}=job:teacher"], REWARD, "makes no reward model: its method is sft"),
        ([f"{REWARD}="], REWARD, "is required: a model reference"),
        (["jobs.policy.method.rewards.length.maximum=0"], "jobs.policy.method.rewards.length.maximum", "is required"),
        (["jobs.policy.method.extra.reward_weights=[1,2]"], "jobs.policy.method.extra.reward_weights", "weight"),
        (["jobs.student.method.algorithm=logit", "jobs.student.method.lmbda=0.3"], "jobs.student.method.lmbda", "0."),
        (["jobs.student.method.algorithm=logit", "jobs.student.method.seq_kd=true"], "jobs.student.method.seq_kd", ""),
    ],
)
def test_a_wrong_model_or_setting_is_found(folder, overrides, key, rule):
    assert rule in problems(folder, *overrides)[key]


def test_models_of_the_wrong_kind_are_told_by_their_files(folder, tmp_path):
    scorer = model(tmp_path, "scorer", architectures=["Qwen2ForSequenceClassification"])
    writer = model(tmp_path, "writer", architectures=["Qwen2ForCausalLM"])
    found = problems(folder, f"{TEACHER}={scorer}", f"{REWARD}={writer}")
    assert found[TEACHER] == f"{scorer} is a reward model, which scores and does not write."
    assert found[REWARD] == f"{writer} is no reward model: it writes and does not score."
    assert plan(folder, f"{TEACHER}={writer}", f"{REWARD}={scorer}")


def test_a_malformed_reference_is_found(folder):
    assert "begins with one of hub:" in problems(folder, f"{TEACHER}=teacher")[TEACHER]


def test_no_rewards_are_refused_with_the_choices(folder):
    text = JOBS.replace("  - /reward@jobs.policy.method.rewards: [reward_model, length]\n", "")
    text = text.replace("    method: {rewards: {reward_model: {model: 'job:judge'}, length: {maximum: 9}}}\n", "")
    assert "exact_match, json_schema, length" in problems(folder, text=text)["jobs.policy.method.rewards"]


def test_a_typo_in_a_reward_is_answered_with_the_nearest_key(folder):
    folder.write(JOBS)
    (problem,) = folder.problems("jobs.policy.method.rewards.length.maxmum=3")
    assert problem.nearest == "maximum"
    assert problem.where == "command line"


def test_a_reward_at_the_top_is_sent_to_its_place(folder):
    assert "+reward@method.rewards" in problems(folder, "+reward=length")["reward"]


def test_a_schema_comes_from_a_file_and_stays_in_the_recipe(folder, tmp_path):
    schema = {"type": "object", "required": ["name"]}
    folder.write(JOBS)
    Path("recipes/person.json").write_text(json.dumps(schema))
    key = "jobs.policy.method.rewards.json_schema"
    text = JOBS.replace("[reward_model, length]", "[reward_model, length, json_schema]")
    found = plan(folder, f"{key}.definition=recipe:person.json", text=text)
    assert found.recipe.jobs["policy"].method.rewards["json_schema"].definition == schema
    assert stages(found)["policy.train"].config["method"]["rewards"]["json_schema"]["definition"] == schema
    wrong = {
        "recipe:../person.json": "leads out of the folder of recipes",
        "recipe:nobody.json": "cannot be read: No such file",
        "recipe:mine.yaml": "is no JSON",
    }
    for given, rule in wrong.items():
        assert rule in problems(folder, f"{key}.definition={given}", text=text)[f"{key}.definition"]


def test_a_plan_counts_the_teacher_and_refuses_one_of_other_tokens(folder, tmp_path):
    student = model(tmp_path, "small")
    words = (f"jobs.student.model.ref={student}", "~jobs.policy", "~jobs.judge", "~jobs.teacher")

    def forecast(teacher):
        return with_forecasts(plan(folder, f"{TEACHER}={teacher}", *words)).forecasts["student.train"]

    near = forecast(model(tmp_path, "near", hidden_size=512, vocab_size=1024))
    assert near.memory.parts["reference"] > 4 * 512 * 1024
    assert near.verdict == "fits"
    other = forecast(model(tmp_path, "other", vocab_size=5000))
    assert "method.teacher has 5000 tokens and the student 1000" in other.refusal
    unknown = forecast("hub:nobody/knows")
    assert any("method.teacher is not counted" in note for note in unknown.assumptions)


def test_a_plan_refuses_answers_that_make_no_whole_groups(folder, tmp_path):
    words = (f"jobs.policy.model.ref={model(tmp_path, 'small')}", "jobs.policy.method.num_generations=3")
    found = with_forecasts(plan(folder, *words)).forecasts["policy.train"]
    assert "8 answers are generated at once" in found.refusal
