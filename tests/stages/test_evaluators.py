"""Evaluators on a model whose answers, scores and likelihoods are written down."""

from __future__ import annotations

import pytest

from largeforge.errors import StageError
from largeforge.evaluators import exact_match, label_auc, loss, preference_accuracy, reward_accuracy
from largeforge.recipe.evaluation import asked


class Written:
    """A subject whose tokens are characters; `likes` maps an answer to its log-probability per token."""

    def __init__(self, rows, *, answers=None, likes=None, scores=None):
        self.rows, self.written, self.likes, self.scores = rows, answers or {}, likes or {}, scores
        self.samples, self.seen = [], []

    def render(self, messages, *, generation_prompt, tools=None):
        calls = "".join(str(message.get("tool_calls", "")) for message in messages)
        text = "".join(message["content"] for message in messages) + calls
        self.seen.append((text, tools))
        return [ord(character) for character in text]

    def encode(self, prompt, answer, *, tools=None):
        before = self.render(prompt, generation_prompt=True)
        return before + self.render(answer, generation_prompt=False, tools=tools), len(before)

    def text_tokens(self, text):
        return [ord(character) for character in text]

    def text(self, tokens):
        return "".join(map(chr, tokens))

    def answers(self, places, *, max_new_tokens, batch_size):
        asking = [self.render(asked(self.rows[place]), generation_prompt=True, tools=self.rows[place].get("tools"))
                  for place in places]  # fmt: skip
        return [self.written[self.text(prompt)] for prompt in asking]

    def log_probabilities(self, batch):
        return [self.likes.get(self.text(ids[skip:]), -1.0) * (len(ids) - skip) for ids, skip in batch]

    def rewards(self, batch):
        return [self.scores[self.text(ids)] if self.scores else 0.0 for ids in batch]

    def sample(self, row, metric, **sample):
        self.samples.append({"row": row, "metric": metric, **sample})

    def progress(self, done, total):
        pass


def figures(evaluator, config, subject):
    """Return each metric as one figure."""
    return {name: series.figure() for name, series in evaluator.run(config, subject).items()}


def says(role, content, **more):
    return {"role": role, "content": content, **more}


def pair(prompt, chosen, rejected):
    return {
        "prompt": [says("user", prompt)],
        "chosen": [says("assistant", chosen)],
        "rejected": [says("assistant", rejected)],
    }


def rated(prompt, answer, label):
    return {"prompt": [says("user", prompt)], "completion": [says("assistant", answer)], "label": label}


def test_exact_match_of_bare_prompts_passes_over_those_without_an_answer():
    rows = [
        {"prompt": [says("user", "1+1")], "answer": "2"},
        {"prompt": [says("user", "2+2")], "answer": "4"},
        {"prompt": [says("user", "a poem")], "answer": ""},
    ]
    subject = Written(rows, answers={"1+1": " 2\n", "2+2": "5"})
    assert figures(exact_match, exact_match.Config(), subject) == {"exact_match": 0.5}
    assert [(sample["row"], sample["score"]) for sample in subject.samples] == [(0, 1.0), (1, 0.0)]


def test_exact_match_without_any_answer_says_so():
    with pytest.raises(StageError, match="no held-out row has an answer"):
        exact_match.run(exact_match.Config(), Written([{"prompt": [says("user", "a")], "answer": " "}]))


def test_exact_match_takes_the_last_turn_and_compares_calls_as_the_template_writes_them():
    tools = [{"type": "function", "function": {"name": "add"}}]
    call = says("assistant", "", tool_calls="add(1,1)")
    row = {"messages": [says("user", "a"), says("assistant", "b"), says("user", "c"), call], "tools": tools}
    subject = Written([row], answers={"abc": "add(1,1)"})
    assert figures(exact_match, exact_match.Config(), subject) == {"exact_match": 1.0}
    assert subject.seen[-1] == ("abc", tools)  # the prompt that is answered
    assert subject.samples == [
        {"row": 0, "metric": "exact_match", "expected": "add(1,1)", "answer": "add(1,1)", "score": 1.0}
    ]


def test_loss_of_text_counts_every_token_but_the_first_of_a_piece():
    subject = Written([{"text": "abcdefgh"}], likes={"bcd": -1.0, "fgh": -3.0})
    found = figures(loss, loss.Config(max_length=4), subject)
    assert found["loss"] == pytest.approx(2.0)
    assert found["perplexity"] == pytest.approx(2.718281828**2)


def test_preference_accuracy_sums_over_the_answer():
    rows = [pair("a", "xx", "y"), pair("b", "x", "yy")]
    subject = Written(rows, likes={"xx": -0.4, "y": -1.0, "x": -2.0, "yy": -0.5})
    assert figures(preference_accuracy, preference_accuracy.Config(), subject) == {"preference_accuracy": 0.5}


def test_reward_accuracy_counts_equal_scores_half_so_that_a_base_without_a_head_has_chance():
    rows = [pair("a", "x", "y"), pair("b", "x", "y"), pair("c", "x", "y")]
    scores = {"ax": 2.0, "ay": 1.0, "bx": 1.0, "by": 1.0, "cx": 0.0, "cy": 3.0}
    config = reward_accuracy.Config(batch_size=2)
    assert figures(reward_accuracy, config, Written(rows, scores=scores)) == {"reward_accuracy": 0.5}
    assert figures(reward_accuracy, config, Written(rows[:1], scores=scores)) == {"reward_accuracy": 1.0}
    assert figures(reward_accuracy, config, Written(rows)) == {"reward_accuracy": 0.5}


def test_label_auc_sets_every_wanted_answer_against_every_unwanted_one_per_token():
    rows = [rated("p", "aaaa", True), rated("q", "b", True), rated("r", "c", False), rated("s", "d", False)]
    subject = Written(rows, likes={"aaaa": -0.5, "b": -2.0, "c": -2.0, "d": -1.0})
    # a beats c and d although it is longer; b equals c, and loses to d
    assert figures(label_auc, label_auc.Config(batch_size=3), subject) == {"label_auc": (1 + 1 + 0.5 + 0) / 4}


@pytest.mark.parametrize(("label", "missing"), [(True, "an unwanted"), (False, "a wanted")])
def test_label_auc_needs_both_labels(label, missing):
    with pytest.raises(StageError, match=f"no held-out row has {missing}"):
        label_auc.run(label_auc.Config(), Written([rated("p", "a", label)]))
