"""A judge is asked in both orders, within limits, never twice, and its key is written nowhere."""

from __future__ import annotations

import json

import pytest

from largeforge.errors import StageError
from largeforge.evaluators import judge, rubric
from tests.evaluators.conftest import row
from tests.evaluators.judging_server import KEY, judging


class Pair:
    """The answers of two models."""

    baseline = "base"

    def __init__(self, own, other, work):
        self.rows = [row(f"question {place}", "right") for place in range(len(own))]
        self.own, self.other, self.work = own, other, work
        self.decided, self.notes = {}, []

    def count_tokens(self, text):
        return len(text.split())

    def lost(self, place, metric, *, expected, score):
        self.decided[place] = score

    def progress(self, done, total):
        pass

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def config(server, **settings):
    return judge.Config(endpoint=server.url, model="wise", **settings)


OWN = ["much longer here", "no", "same", "a bit longer", "mumble mumble"]
OTHER = ["short", "the longer one", " same\n", "a bit more", "mumble"]


def test_both_orders_are_asked_so_that_a_favoured_position_wins_nothing(tmp_path):
    with judging(bias=4) as server:
        pair = Pair(OWN, OTHER, tmp_path)
        values = judge.run(config(server), pair)["win_rate"].values
    assert values == [1.0, 0.0, 0.5, 0.5, None]  # of a bit longer and a bit more, whatever stands first is preferred
    assert pair.decided == {0: 1.0, 1: 0.0, 3: 0.5}
    assert len(server.asked) == 8  # nobody is asked of equal answers
    assert "1 won, 1 lost, 2 ties (1 equal answers, 1 where the orders disagree), 1 verdicts" in pair.notes[0]
    shown = [body["messages"][-1]["content"] for body in server.asked]
    assert sum("user: question 0" in text and "[Reference answer]\nright" in text for text in shown) == 2


def test_without_the_swap_the_favoured_position_would_win(tmp_path):
    with judging(bias=4) as server:
        pair = Pair(OWN, OTHER, tmp_path)
        asked = [
            judge.question(config(server), pair, 3, first=one, second=two)[-1]["content"]
            for one, two in ((OWN, OTHER), (OTHER, OWN))
        ]
        assert [judge.verdict(server.reply(content)) for content in asked] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("first", "second", "score"),
    [(1.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.5, 0.5, 0.5), (1.0, 1.0, 0.5), (1.0, 0.5, 0.5), (None, 0.0, None)],
)
def test_only_what_is_preferred_in_both_orders_has_won(first, second, score):
    assert judge.together(first, second) == score


def test_the_last_verdict_of_a_reply_counts():
    assert judge.verdict("[[A]] would be wrong; so [[B]]") == 0.0
    assert judge.verdict("A") is None


def test_an_overload_is_waited_out_and_tokens_are_paid(tmp_path):
    prices = {"usd_per_million_prompt_tokens": 10.0, "usd_per_million_answer_tokens": 100.0}
    with judging(failures=[429, 503]) as server:
        pair = Pair(OWN[:2], OTHER[:2], tmp_path)
        judge.run(config(server, concurrency=1, **prices), pair)
    assert len(server.asked) == 6
    assert "6 requests, 400 prompt and 40 answer tokens, 0.0080 USD" in pair.notes[0]
    assert json.loads((tmp_path / "spent.json").read_text())["usd"] == pytest.approx(0.008)


def test_an_endpoint_that_does_not_count_is_counted(tmp_path):
    with judging(usage=False) as server:
        pair = Pair(OWN[:1], OTHER[:1], tmp_path)
        judge.run(config(server), pair)
    assert json.loads((tmp_path / "spent.json").read_text())["answer_tokens"] == 2 * 5  # words, here


def test_what_was_judged_is_not_asked_again_after_an_interruption(tmp_path):
    with judging() as server:
        judge.run(config(server, reuse=False), Pair(OWN, OTHER, tmp_path))
        ledger = tmp_path / "judged.jsonl"
        kept = ledger.read_text().splitlines()
        ledger.write_text("\n".join(kept[:5]) + '\n{"key": "cut o')
        server.asked.clear()
        pair = Pair(OWN, OTHER, tmp_path)
        assert judge.run(config(server, reuse=False), pair)["win_rate"].values == [1.0, 0.0, 0.5, 1.0, None]
    assert len(server.asked) == 3
    assert "8 requests" in pair.notes[0]


def test_a_limit_stops_clearly_and_what_was_judged_serves_the_next_run(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with judging() as server:
        with pytest.raises(StageError, match=r"stopped at max_requests=3 \(3 requests.*raise the limit and run again"):
            judge.run(config(server, max_requests=3, concurrency=1), Pair(OWN, OTHER, tmp_path / "one"))
        assert len(server.asked) == 3
        pair = Pair(OWN, OTHER, tmp_path / "two")
        judge.run(config(server), pair)
    assert "5 requests and 3 replies of earlier runs" in pair.notes[0]


def test_a_cost_stops_as_well(tmp_path):
    with judging() as server, pytest.raises(StageError, match=r"max_cost_usd=0\.002"):
        prices = {"usd_per_million_prompt_tokens": 10.0, "max_cost_usd": 0.002}
        judge.run(config(server, concurrency=1, **prices), Pair(OWN, OTHER, tmp_path))
    assert len(server.asked) == 2


def test_the_key_goes_to_the_endpoint_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with judging(key=KEY) as server:
        judge.run(config(server, api_key_env="JUDGE_KEY"), Pair(OWN, OTHER, tmp_path))
        monkeypatch.setenv("JUDGE_KEY", "another-secret")
        with pytest.raises(StageError, match=r"401 .*wrong key Bearer \*\*\*"):
            judge.run(config(server, api_key_env="JUDGE_KEY", temperature=0.5), Pair(OWN, OTHER, tmp_path))
        monkeypatch.delenv("JUDGE_KEY")
        with pytest.raises(StageError, match="variable JUDGE_KEY of the environment is not set"):
            judge.run(config(server, api_key_env="JUDGE_KEY", temperature=1), Pair(OWN, OTHER, tmp_path))
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in written
    assert "another-secret" not in written


def test_nobody_at_the_address_is_said(tmp_path):
    with judging() as server:
        gone = config(server, num_retries=0)
    with pytest.raises(StageError, match=r"did not answer in 1 attempts: .*refused"):
        judge.run(gone, Pair(OWN, OTHER, tmp_path))


def test_answers_are_graded_by_each_criterion(answering):
    with judging() as server:
        criteria = {"correct": "Is it true?", "helpful": "Does it help?"}
        settings = rubric.Config(endpoint=server.url, model="wise", criteria=criteria)
        subject = answering({"1": ("abc", "right"), "2": ("mumble", "")})
        found = rubric.run(settings, subject)
    assert {name: series.values for name, series in found.items()} == {
        "rubric": [2.5, None], "rubric.correct": [3.0, None], "rubric.helpful": [2.0, None],
    }  # fmt: skip
    assert rubric.metrics(settings) == ("rubric", "rubric.correct", "rubric.helpful")
    assert "1 of 2 replies could not be read" in subject.notes[0]


@pytest.mark.parametrize("reply", ["correct: 6", "correct: 4.5", "correct: 45", "incorrect: 4", "correct is 4"])
def test_what_is_no_grade_is_none(reply):
    assert rubric.grade("correct", reply) is None


def test_what_is_missing_is_said_before_a_run():
    assert [problem.key for problem in judge.check(judge.Config())] == ["endpoint", "model"]
    assert [problem.key for problem in rubric.check(rubric.Config())] == ["endpoint", "model", "criteria"]
    priceless = judge.Config(endpoint="http://x/v1", model="m", max_cost_usd=1)
    assert [problem.key for problem in judge.check(priceless)] == ["max_cost_usd"]
