"""The stage that refuses a model."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from largeforge.errors import GateError
from largeforge.stages import gate

SURE = {"low": 0.88, "high": 0.94, "rows": 900, "value": 0.91, "method": "Wilson", "p_value": None}
WIDE = {**SURE, "low": None, "high": None, "rows": 3}


@pytest.fixture
def decide(tmp_path):
    """Return a function that decides gates on an evaluation, and the events that it told."""
    told = []
    events = SimpleNamespace(emit=lambda kind, **fields: told.append({"kind": kind, **fields}))
    context = SimpleNamespace(inputs={"evaluation": tmp_path}, out=tmp_path / "out", events=events)

    def run(gates, metrics, *, intervals=None, absent=(), by="interval"):
        found = {"rows": 9, "metrics": metrics, "intervals": intervals or {}, "absent": list(absent)}
        (tmp_path / "evaluation.json").write_text(json.dumps(found))
        return gate.run(gate.Config(gates=gates, by=by), context)

    return SimpleNamespace(run=run, told=told, out=tmp_path / "out" / "evaluation.json")


def test_what_passes_goes_on_with_its_verdicts(decide):
    decide.run({"exact_match": ">= 0.85"}, {"exact_match": 0.91}, intervals={"exact_match": SURE})
    assert decide.told == [
        {"kind": "gate", "metric": "exact_match", "condition": ">= 0.85", "value": 0.91, "outcome": "pass",
         "low": 0.88, "high": 0.94, "rows": 900, "passed": True}
    ]  # fmt: skip
    assert [found["passed"] for found in json.loads(decide.out.read_text())["gates"]] == [True]


def test_a_refusal_names_all_gates_that_refused(decide):
    gates = {"exact_match": ">= 0.95", "loss": "< 1", "perplexity": "< 9"}
    with pytest.raises(GateError) as refused:
        decide.run(gates, {"exact_match": 0.91, "loss": 2.0, "perplexity": 7.4}, intervals={"exact_match": SURE})
    assert "exact_match is 0.91 (0.88 to 0.94), must be >= 0.95; loss is 2, must be < 1" in str(refused.value)
    assert "perplexity" not in str(refused.value)
    assert not decide.out.exists()


def test_too_few_rows_are_another_refusal_that_says_what_to_do(decide):
    with pytest.raises(GateError, match=r"not enough data .* 3 rows are not enough .*judging.gates=value"):
        decide.run({"exact_match": ">= 0.85"}, {"exact_match": 0.91}, intervals={"exact_match": WIDE})
    assert decide.told[-1]["outcome"] == "not enough data"
    decide.run({"exact_match": ">= 0.85"}, {"exact_match": 0.91}, intervals={"exact_match": WIDE}, by="value")
    assert decide.out.exists()


def test_the_first_of_its_name_has_no_champion_to_beat(decide):
    decide.run({"vs_champion.loss": "<= 0"}, {"loss": 1.0}, absent=["champion"])
    assert decide.told[-1]["passed"] is True
    assert decide.told[-1]["note"] == "there is no champion yet to compare with"


def test_a_metric_that_nothing_computed_is_refused(decide):
    with pytest.raises(GateError, match=r"vs_champion.loss is unknown"):
        decide.run({"vs_champion.loss": "<= 0"}, {"loss": 1.0})
