"""What lm-eval found becomes series by row; a real vLLM answers its questions in tests/e2e/test_evaluation.py."""

from __future__ import annotations

import pytest

from largeforge.errors import StageError
from largeforge.evaluators import lm_eval
from largeforge.evaluators.lm_eval import Config, series_of


def sample(place, filtered="none", **metrics):
    return {"doc_id": place, "filter": filtered, **metrics}


RESULTS = {
    "group_subtasks": {"both": ["one", "two"], "one": [], "two": []},
    "samples": {
        "one": [sample(1, acc=0.0, acc_norm=1.0), sample(0, acc=1.0, acc_norm=1.0)],
        "two": [sample(0, acc=1.0), sample(1, acc=1.0)],
        "sums": [sample(0, "strict", exact_match=0.0), sample(0, "loose", exact_match=1.0)],
        "text": [sample(0, word_perplexity=(-2.0, 3))],
        "odd": [sample(0, f1=1.0), sample(1, f1=0.0)],
    },
    "results": {
        "one": {"acc,none": 0.5, "acc_norm,none": 1.0}, "two": {"acc,none": 1.0},
        "sums": {"exact_match,strict": 0.0, "exact_match,loose": 1.0}, "text": {"word_perplexity,none": 1.9},
        "odd": {"f1,none": 0.8, "f1_stderr,none": 0.1},
    },
}  # fmt: skip


def test_rows_are_in_the_order_of_the_task():
    found = series_of(Config(tasks=["one"], metrics=["acc", "acc_norm"]), "one", RESULTS)
    assert {name: (series.values, series.over) for name, series in found.items()} == {
        "one.acc": ([1.0, 0.0], "lm_eval one"), "one.acc_norm": ([1.0, 1.0], "lm_eval one"),
    }  # fmt: skip


def test_a_group_is_over_the_rows_of_all_its_tasks():
    assert series_of(Config(tasks=["both"]), "both", RESULTS)["both.acc"].values == [1.0, 0.0, 1.0, 1.0]


def test_a_filter_is_chosen_by_its_name():
    config = Config(tasks=["sums"], metrics=["exact_match", "exact_match,loose"])
    found = {name: series.values for name, series in series_of(config, "sums", RESULTS).items()}
    assert found == {"sums.exact_match": [0.0], "sums.exact_match,loose": [1.0]}
    assert lm_eval.metrics(config) == ("sums.exact_match", "sums.exact_match,loose")


@pytest.mark.parametrize(
    ("task", "metric", "rule"),
    [("text", "word_perplexity", "no score by row"), ("odd", "f1", "no mean of its rows"),
     ("one", "bleu", "has none of bleu; it has acc,none, acc_norm,none")],
)  # fmt: skip
def test_what_cannot_be_compared_by_row_is_refused(task, metric, rule):
    with pytest.raises(StageError, match=rule):
        series_of(Config(tasks=[task], metrics=[metric]), task, RESULTS)


class Away:
    """An index of tasks whose data is elsewhere, or broken."""

    def __init__(self, error):
        self.error = error

    def load(self, tasks):
        raise self.error


def test_a_task_whose_data_is_on_the_internet_says_so():
    offline = ConnectionError("Couldn't reach 'Rowan/hellaswag' on the Hub (OfflineModeIsEnabled)")
    with pytest.raises(StageError, match=r"task hellaswag needs a data set from the Hugging Face hub.*include_path"):
        lm_eval._load(Away(offline), "hellaswag")
    with pytest.raises(StageError, match="cannot load task mine: KeyError: 'doc_to_text'"):
        lm_eval._load(Away(KeyError("doc_to_text")), "mine")


def test_what_is_missing_is_said_before_a_run():
    assert [problem.key for problem in lm_eval.check(Config())] == ["tasks"]
