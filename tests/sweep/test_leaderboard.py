"""Ranks, the terminal's table, CSV and the page."""

from __future__ import annotations

import csv
import shlex
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from largeforge.sweep import leaderboard, page
from largeforge.sweep.charts import objective_scale
from largeforge.sweep.folder import About, Folder, Trial
from largeforge.sweep.space import Space

ABOUT = About(
    "mine", ("+recipe=mine", "sweep=optuna"),
    (Space("method.learning_rate", low=1e-4, high=1e-1, is_tagged_log=True), Space("name", values=("a b", "<c>"))),
    "exact_match", "maximize", 6, "abc",
)  # fmt: skip


def trial(
    number: int, rate: str, match: float | None, state: str = "done", name: str = "a b", reason: str = ""
) -> Trial:
    metrics = {} if match is None else {"exact_match": match, "loss": 2 - match, "base.loss": 3.0 + number}
    words = ("+recipe=mine", f"method.learning_rate={rate}", f"name={name}")
    values = {"method.learning_rate": rate, "name": name}
    return Trial(number, values, words, state, metrics=metrics, seconds=2.5, reason=reason)  # type: ignore[arg-type]


TRIALS = [
    trial(0, "0.001", 0.5), trial(1, "0.01", 0.9, name="<c>"), trial(2, "0.02", 0.95, "refused", reason="gate: no"),
    trial(3, "0.03", None, "failed", reason="train: <b>boom</b>\nsecond line"), trial(4, "0.0001", 0.9),
    trial(5, "0.05", None, "invalid", reason="1 problem in the recipe:\n  - command line: name: wrong."),
]  # fmt: skip


def test_the_best_comes_first_and_refused_trials_have_no_rank() -> None:
    entries = leaderboard.rank(TRIALS, ABOUT)
    assert [(entry.rank, entry.trial.number) for entry in entries] == [
        (1, 1), (2, 4), (3, 0), (None, 2), (None, 3), (None, 5),
    ]  # fmt: skip
    lowest = leaderboard.rank(TRIALS, replace(ABOUT, direction="minimize"))
    assert [entry.trial.number for entry in lowest[:3]] == [0, 1, 4]
    assert leaderboard.best(leaderboard.rank(TRIALS[2:4], ABOUT)) is None


def test_the_command_of_the_best_is_quoted() -> None:
    command = leaderboard.command(TRIALS[0])
    assert shlex.split(command) == ["python", "-m", "largeforge", *TRIALS[0].words]
    assert "'name=a b'" in command


def test_the_terminal_shows_ranks_reasons_and_what_to_type() -> None:
    console = Console(width=200, record=True)
    with console.capture() as captured:
        leaderboard.print_leaderboard(console, leaderboard.rank(TRIALS, ABOUT), ABOUT, "runs/sweep.html")
    shown = captured.get()
    assert "#003 failed: train: <b>boom</b>" in shown
    assert "#005 invalid: command line: name: wrong." in shown
    assert "Run the best again:  python -m largeforge +recipe=mine method.learning_rate=0.01 'name=<c>'" in shown
    assert "base.loss" not in shown
    assert "3 done, 1 refused, 1 failed, 1 invalid of 6" in shown


def test_the_csv_has_every_trial_with_all_that_is_known(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    leaderboard.write_csv(path, leaderboard.rank(TRIALS, ABOUT), ABOUT)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["trial"] for row in rows] == ["1", "4", "0", "2", "3", "5"]
    assert (rows[0]["rank"], rows[0]["objective"], rows[0]["method.learning_rate"]) == ("1", "0.9", "0.01")
    assert (rows[3]["rank"], rows[3]["state"], rows[3]["reason"]) == ("", "refused", "gate: no")
    assert rows[4]["reason"] == "train: <b>boom</b>; second line"
    assert float(rows[0]["base.loss"]) == 4.0
    assert shlex.split(rows[2]["command"])[-1] == "name=a b"


def test_the_page_plots_every_key_and_links_reports(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "sweeps" / "mine" / "abc")
    run_dir = tmp_path / "mine" / "run"
    run_dir.mkdir(parents=True)
    (run_dir / "report.html").write_text("")
    trials = [replace(TRIALS[1], run_dir=str(run_dir)), TRIALS[0], *TRIALS[2:]]
    text = page.write(folder, leaderboard.rank(trials, ABOUT), ABOUT).read_text()
    for key in ("method.learning_rate", "name"):
        assert f'aria-label="exact_match against {key}"' in text
    assert "logarithmic" in text
    assert 'href="../../../mine/run/report.html"' in text
    assert text.count("<circle") == 4 * 3  # four trials with an objective, two keys and the history
    assert text.count("<polyline") == 4
    assert "train: &lt;b&gt;boom&lt;/b&gt;" in text
    assert "<b>boom" not in text
    assert "<c>" not in text
    assert "python -m largeforge +recipe=mine method.learning_rate=0.01 &#x27;name=&lt;c&gt;&#x27;" in text
    assert "http://" not in text and "https://" not in text


def test_a_page_without_results_is_still_a_page(tmp_path: Path) -> None:
    text = page.render(Folder(tmp_path), leaderboard.rank([], ABOUT), ABOUT)
    assert "0 of 6" in text
    failed = page.render(Folder(tmp_path), leaderboard.rank(TRIALS[3:4], ABOUT), ABOUT)
    assert 'id="reasons"' in failed
    assert "<circle" not in failed


def test_a_trial_that_diverged_does_not_press_the_others_together() -> None:
    scale = objective_scale([1.0, 1.1, 1.2, 1.3, 1e9], is_minimized=True)
    assert scale(1.3) > 0.2
    assert scale(1e9) > 1
    assert 0.4 < objective_scale([0.5], is_minimized=True)(0.5) < 0.6
