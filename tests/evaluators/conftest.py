"""Subjects whose answers are written down."""

from __future__ import annotations

import pytest

from largeforge.recipe.evaluation import asked


class Answering:
    """A subject that answers each prompt with what is written for it; a word is a token."""

    device = "cpu"

    def __init__(self, rows, answers, work=None):
        self.rows, self.written, self.work = rows, answers, work
        self.samples, self.notes = [], []

    def answers(self, places, *, max_new_tokens, batch_size):
        return [self.written[asked(self.rows[place])[-1]["content"]] for place in places]

    def encode(self, prompt, answer, *, tools=None):
        text = "".join(message["content"] for message in prompt)
        return [*map(ord, text), *map(ord, answer[-1]["content"])], len(text)

    def count_tokens(self, text):
        return len(text.split())

    def sample(self, row, metric, **sample):
        self.samples.append({"row": row, "metric": metric, **sample})

    def progress(self, done, total):
        pass

    def note(self, text):
        self.notes.append(text)


def row(prompt, answer="", **more):
    return {"prompt": [{"role": "user", "content": prompt}], "answer": answer, "source": "rows.jsonl:1", **more}


@pytest.fixture
def answering(tmp_path):
    """Make a subject of `{prompt: (answer, reference)}`, or of rows and their answers."""

    def make(pairs, **columns):
        rows = [row(prompt, wanted, **columns) for prompt, (_, wanted) in pairs.items()]
        return Answering(rows, {prompt: answer for prompt, (answer, _) in pairs.items()}, tmp_path)

    return make
