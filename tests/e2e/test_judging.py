"""A model is judged beside its base, the champion and answers of a file, and is not promoted where that is unsure."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

from tests.e2e.test_training import SMALL, rows

if TYPE_CHECKING:
    from tests.e2e.workspace import Workspace

RECIPE = SMALL.replace("- /evaluation: loss", "- /evaluation: [loss, exact_match]").replace("_steps: 60", "_steps: 120")
CHAMPION = "judging.baselines.champion.model=registry:small@champion"


def test_a_challenger_that_is_not_surely_as_good_leaves_the_champion_where_it_is(workspace: Workspace) -> None:
    workspace.write("recipes/small.yaml", RECIPE)
    workspace.write("words.jsonl", rows())
    words = ["+recipe=small", "+register_as=small", f"+{CHAMPION}"]
    first = workspace.run(*words, "+gates.vs_champion.exact_match='>= 0'")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "there is no champion yet to compare with" in first.stdout
    best = workspace.manifest("small", "evaluate")["metrics"]["exact_match"]
    (workspace.run_dir("small") / "evaluate" / "out" / "answers.jsonl").rename(workspace.path / "before.jsonl")

    written = "+judging.baselines.before.answers=before.jsonl"
    worse = [*words, written, "method.max_steps=3", "gates={vs_champion.exact_match: '>= 0'}"]
    second = workspace.run(*worse, "judging.worst=3")
    assert second.returncode == 3, second.stdout + second.stderr
    assert "vs_champion.exact_match is" in second.stderr
    found = json.loads((workspace.run_dir("small") / "evaluate" / "out" / "evaluation.json").read_text())
    metrics, intervals = found["metrics"], found["intervals"]
    assert metrics["champion.exact_match"] == metrics["before.exact_match"] == best > metrics["exact_match"]
    assert metrics["vs_champion.exact_match"] == metrics["exact_match"] - best
    assert "before.loss" not in metrics  # answers in a file have no likelihood
    apart = intervals["vs_champion.exact_match"]
    assert apart["low"] < metrics["vs_champion.exact_match"] < apart["high"]
    assert (apart["rows"], apart["method"]) == (20, "Newcombe")
    fallen = [one for one in found["regressions"] if one["baseline"] == "champion"]
    assert len(fallen) == 3
    assert all(one["before"] == one["expected"] != one["answer"] for one in fallen)
    page = (workspace.run_dir("small") / "report.html").read_text()
    assert "answers that are worse than those of champion" in page and fallen[0]["expected"] in page
    with sqlite3.connect(workspace.path / "registry" / "mlflow.db") as registry:
        assert [tuple(row) for row in registry.execute("select name, version from model_versions")] == [("small", 1)]
