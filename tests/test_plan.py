"""Plans: order, what depends on what, and which stages change when a value changes (whole plans: tests/golden)."""

from __future__ import annotations

import io
import subprocess

import pytest
from rich.console import Console

from largeforge import runs
from largeforge.plan_view import render, summary
from largeforge.planning import make_plan
from largeforge.recipe.compose import compose
from largeforge.recipe.folders import shipped_root
from largeforge.recipe.validate import validate

CPU = ("hardware.cores=4", "hardware.memory_gib=16")


def plan(*words):
    composition = compose(words)
    return make_plan(validate(composition), recipe_folder=composition.recipe_folder)


def quickstart(*words):
    return plan("+recipe=quickstart", *CPU, *words)


def changed(before, after):
    """Return the names of the stages of `after` whose fingerprint `before` does not have."""
    known = {stage.name: stage.fingerprint for stage in before.stages}
    return {stage.name for stage in after.stages if known.get(stage.name) != stage.fingerprint}


def write_jobs(tmp_path, monkeypatch, jobs):
    """Write a recipe with a job per entry: its name and the reference that it starts from."""
    monkeypatch.chdir(tmp_path)
    body = "".join(
        f"  {name}:\n    model: {{ref: '{ref}'}}\n    dataset: {{path: rows.jsonl}}\n    method: {{name: sft}}\n"
        f"    adapter: {{name: none}}\n    evaluation: {{loss: {{name: loss}}}}\n    gates: {{loss: '< 9'}}\n"
        f"    register_as: {name}\n"
        for name, ref in jobs.items()
    )
    experts = "".join(f"    {name}: {{model: 'job:{name}'}}\n" for name in jobs)
    head = f"defaults:\n  - /router: keyword\n  - override /hardware: cpu\nname: jobs\njobs:\n{body}"
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "jobs.yaml").write_text(
        f"{head}topology:\n  fallback: {next(iter(jobs))}\n  experts:\n{experts}"
    )


def test_every_stage_stands_after_what_it_needs():
    seen = set()
    for stage in quickstart().stages:
        assert set(stage.needs) <= seen
        seen.add(stage.name)


def test_jobs_stand_after_the_job_they_start_from(tmp_path, monkeypatch):
    write_jobs(tmp_path, monkeypatch, {"c": "job:b", "b": "job:a", "x": "hub:m/x", "a": "hub:m/a", "d": "job:b"})
    trains = [stage.job for stage in plan("+recipe=jobs", *CPU).stages if stage.kind == "train"]
    assert trains == ["a", "b", "c", "x", "d"]


def test_jobs_that_can_train_side_by_side_share_the_cores(tmp_path, monkeypatch):
    write_jobs(tmp_path, monkeypatch, {"a": "hub:m/a", "b": "job:a", "c": "job:a", "d": "job:c"})
    threads = {stage.job: stage.threads for stage in plan("+recipe=jobs", *CPU).stages if stage.kind == "train"}
    assert threads == {"a": 4, "b": 2, "c": 2, "d": 4}


@pytest.mark.parametrize(
    "refs", [["hub:m/a"] * 60, ["hub:m/a", *(f"job:j{i}" for i in range(59))]], ids=["flat", "chain"]
)
def test_sixty_jobs_and_experts(tmp_path, monkeypatch, refs):
    write_jobs(tmp_path, monkeypatch, {f"j{index}": ref for index, ref in enumerate(refs)})
    found = plan("+recipe=jobs", *CPU)
    assert len(found.stages) == 60 * 5 + 1
    assert len({stage.name for stage in found.stages}) == len(found.stages)


def test_the_same_recipe_has_the_same_plan():
    assert quickstart().as_dict() == quickstart().as_dict()


def test_what_does_not_decide_a_result_changes_no_stage():
    assert not changed(quickstart(), quickstart("mode=plan", "runs.root=/elsewhere"))


def test_a_method_changes_its_training_and_what_follows():
    after = changed(quickstart(), quickstart("jobs.mapper.method.max_steps=7"))
    assert after >= {f"mapper.{kind}" for kind in ("train", "evaluate", "gate", "register")}
    assert not {name for name in after if name.startswith(("general", "support")) and "register" not in name}
    assert "mapper.prepare" not in after


def test_the_first_model_changes_all_that_are_trained_on_it():
    after = changed(quickstart(), quickstart("jobs.general.method.max_steps=7"))
    assert after >= {f"{job}.train" for job in ("general", "mapper", "support")}
    assert not {name for name in after if name.endswith("prepare")}


def test_a_gate_changes_no_training():
    after = changed(quickstart(), quickstart("jobs.mapper.gates.exact_match=>= 0.5"))
    assert "mapper.gate" in after
    assert not {name for name in after if name.endswith(("train", "evaluate", "prepare"))}


def test_the_content_of_the_data_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("+recipe=sft_qwen7b", "dataset.path=rows.jsonl", "hardware.cores=4")
    (tmp_path / "rows.jsonl").write_text("{}\n")
    before = plan(*words)
    (tmp_path / "rows.jsonl").write_text("{} \n")
    assert changed(before, plan(*words)) == {stage.name for stage in before.stages}


def test_stages_of_a_single_job_have_plain_names():
    found = plan("+recipe=sft_qwen7b", "hardware.cores=4")
    names = [stage.name for stage in found.stages]
    assert names == ["prepare", "train", "evaluate", "gate", "merge", "parity", "register"]


def test_what_is_registered_is_compared_with_what_was_trained_where_it_is_served():
    def compared(*words):
        return [stage.inputs for stage in plan("+recipe=sft_qwen7b", *words).stages if stage.kind == "parity"]

    [inputs] = compared()
    assert (inputs["trained"], inputs["model"]) == ("train", "merge")
    assert compared("parity.check=never") == compared("hardware=cpu") == compared("register_as=''") == []
    assert compared("hardware=cpu", "parity.check=always") == [inputs]


def test_serving_waits_for_gates_and_reads_what_jobs_make():
    found = plan(
        "+recipe=sft_qwen7b", "+topology=single", "+router=keyword", "topology.experts.general.model=job:main/merge"
    )
    serve = found.stages[-1]
    assert serve.inputs == {"job:main/merge": "merge"}
    assert set(serve.after) == {"gate", "merge", "parity", "register"}
    assert not serve.reusable


def test_a_model_of_the_registry_is_never_taken_from_another_run():
    stages = plan("+recipe=my_expert", "dataset.path=rows.jsonl", *CPU).stages
    assert {stage.kind for stage in stages if stage.reusable} == {"prepare", "gate"}


def test_the_view_shows_each_stage_in_full():
    found = quickstart()
    output = io.StringIO()
    console = Console(file=output, width=80)
    statuses = {"general.prepare": "done", "general.init": "reusable"}
    console.print(render(found, statuses))
    console.print(summary(found, statuses, f"python -m largeforge +recipe=quickstart {'x' * 90}=1"), soft_wrap=True)
    text = output.getvalue()
    for stage in found.stages:
        assert stage.name in text
    assert "…" not in text
    assert "done" in text
    assert "15 of 17 stages to do" in text
    assert f"python -m largeforge +recipe=quickstart {'x' * 90}=1" in text.splitlines()[-1]


def test_the_view_and_the_lock_have_no_password(tmp_path):
    found = quickstart("registry.uri=postgresql://me:s3cret@db/mlflow")
    output = io.StringIO()
    Console(file=output, width=200).print(render(found, {}))
    runs.describe(tmp_path, found)
    for text in (output.getvalue(), *(path.read_text() for path in tmp_path.iterdir())):
        assert "s3cret" not in text
    assert "postgresql://db/mlflow" in output.getvalue()


def test_a_plan_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quickstart("mode=plan")
    assert list(tmp_path.iterdir()) == []


def test_the_checkout_is_not_named_in_a_lock():
    assert str(shipped_root()) not in str(quickstart().lock)


def test_the_content_of_a_base_model_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "model").mkdir()
    weights = tmp_path / "model" / "model.safetensors"
    words = ("+recipe=sft_qwen7b", "dataset.path=rows.jsonl", f"model.ref=path:{tmp_path}/model", "hardware.cores=4")
    weights.write_bytes(b"a")
    before = plan(*words)
    weights.write_bytes(b"b")
    after = plan(*words)
    assert changed(before, after) == {stage.name for stage in before.stages if stage.kind != "prepare"}
    assert before.digest != after.digest


def test_a_commit_of_the_recipes_changes_no_digest(tmp_path, monkeypatch):
    write_jobs(tmp_path, monkeypatch, {"a": "hub:m/a"})
    before = plan("+recipe=jobs", *CPU)
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    after = plan("+recipe=jobs", *CPU)
    assert (before.lock["origin"].get("git"), after.lock["origin"]["git"]["dirty"]) == (None, False)
    assert before.digest == after.digest
