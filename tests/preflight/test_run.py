"""All checks together: nothing is started after an error, warnings do not stop, and a check may fail itself."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest

from largeforge.errors import PreflightError
from largeforge.execute import execute
from largeforge.preflight import checks
from largeforge.preflight.context import Context
from largeforge.preflight.finding import LEVELS
from largeforge.preflight.run import examine, load, names, notes, require
from tests.preflight.conftest import ON_CPU, TRAIN, model_folder, plan_of


@pytest.fixture
def check(folder, monkeypatch):
    """Add a check by adding a file, as a contributor would."""

    def added(name, body):
        monkeypatch.setattr(checks, "__path__", [*checks.__path__, str(folder / "more")])
        (folder / "more").mkdir(exist_ok=True)
        (folder / "more" / f"{name}.py").write_text(
            f'"""A check."""\nfrom largeforge.preflight.finding import *\n{body}\n'
        )
        names.cache_clear()
        return name

    yield added
    names.cache_clear()


def test_every_check_says_what_it_is_for():
    found = {module.name for module in pkgutil.iter_modules(checks.__path__)}
    assert set(names()) == found
    for name in names():
        first = str(load(name).__doc__).splitlines()[0]
        assert first.endswith("."), name


def test_errors_come_all_at_once_each_in_one_line_with_its_cure_before_anything_is_written(folder):
    plan = plan_of(
        *TRAIN[:1], "dataset.path=none.jsonl", "environment.python=/none/python", f"model.ref=path:{folder}/m"
    )
    with pytest.raises(PreflightError) as caught:
        execute(plan, "command", show=lambda event: None)
    assert caught.value.exit_code == 2
    starts = [line.partition(":")[0] for line in caught.value.errors]
    assert {"dataset", "gpu", "interpreter", "models"} <= set(starts)
    assert all(" Cure: " in line and "\n" not in line for line in caught.value.errors)
    assert not (folder / "runs").exists()


def test_warnings_do_not_stop_a_run(folder, check):
    check("aa_warns", "def check(context):\n    yield warning('it rains', 'take an umbrella')")
    plan = plan_of(*ON_CPU, f"model.ref=path:{model_folder(folder / 'm')}", "merge=false")
    assert [str(found) for found in require(plan)] == ["aa_warns: it rains. Cure: take an umbrella"]


def test_a_check_that_fails_itself_is_a_warning_and_one_that_hangs_too(check):
    check("aa_breaks", "def check(context):\n    yield ok('first')\n    1 / 0")
    check("ab_hangs", "import threading\ndef check(context):\n    threading.Event().wait(60)\n    yield ok('late')")
    breaks, hangs = examine(Context(timeout_s=0.1), only=["aa_breaks", "ab_hangs"])
    assert (breaks.level, "ZeroDivisionError" in breaks.text) == ("warning", True)
    assert (hangs.level, hangs.cure) == ("warning", "python -m largeforge doctor --only ab_hangs")


def test_a_plan_is_told_of_missing_data_and_of_tools_for_hosts_by_checks_that_only_look(folder, monkeypatch):
    assert notes(plan_of(*TRAIN)) == []
    monkeypatch.setattr("shutil.which", lambda name, *more, **others: None)
    there = ("++hosts.hosts.far.address=10.0.0.1", "hardware.num_gpus=1", "hardware.cores=8")
    found = notes(plan_of(*TRAIN[:1], "dataset.path=none.jsonl", *there))
    assert [finding.check for finding in found] == ["dataset", "hosts"]
    assert str(folder / "none.jsonl") in found[0].text


def test_finished_stages_need_nothing_more(folder):
    from largeforge import artifacts, runs

    plan = plan_of(*ON_CPU)
    with runs.opened(plan) as run:
        for stage in plan.stages:
            (run.stage_dir(stage.name) / "out").mkdir(parents=True)
            run.seal(artifacts.Manifest(stage.name, stage.kind, stage.fingerprint, plan.digest, files={}))
    Path("rows.jsonl").rename("gone.jsonl")
    levels = {finding.check: finding.level for finding in examine(Context(plan))}
    assert levels["dataset"] == levels["hub"] == levels["packages"] == levels["registry"] == "skipped"


def test_levels_are_ordered_by_weight():
    assert LEVELS.index("error") > LEVELS.index("warning") > LEVELS.index("ok")
