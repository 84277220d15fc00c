"""Log-probabilities do not depend on how many rows, or how much of one, is computed at a time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from largeforge.stages import loaded_subject as judged

ROWS = [(list(range(3, 3 + size)), skip) for size, skip in ((5, 2), (40, 1), (7, 7), (12, 4), (33, 30))]


@pytest.fixture(scope="module")
def subject():
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=128,
    )  # fmt: skip
    tokenizer = SimpleNamespace(pad_token_id=0)
    return judged.LoadedSubject(AutoModelForCausalLM.from_config(config), tokenizer, [], None)


def plain(subject, ids, skip):
    """Return what the definition says, one row by itself."""
    with torch.inference_mode():
        scores = subject.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(scores[place - 1, ids[place]]) for place in range(skip, len(ids)))


@pytest.mark.parametrize(
    "limits", [(2**30, 512), (128 * 4 * 50, 8), (1, 1)], ids=["one part", "a few parts", "row by row"]
)
def test_every_row_gets_the_log_probability_of_its_completion(subject, limits, monkeypatch):
    monkeypatch.setattr(judged, "LOGITS_BYTES", limits[0])
    monkeypatch.setattr(judged, "PIECE_TOKENS", limits[1])
    found = subject.log_probabilities(ROWS)
    assert found == pytest.approx([plain(subject, ids, skip) for ids, skip in ROWS], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("limit", [1, 60, 10_000])
def test_no_part_has_more_logits_than_allowed_unless_it_is_one_row(subject, limit, monkeypatch):
    sizes = []
    forward = subject.model.forward

    def watched(input_ids, **rest):
        sizes.append(tuple(input_ids.shape))
        return forward(input_ids=input_ids, **rest)

    monkeypatch.setattr(subject.model, "forward", watched)
    monkeypatch.setattr(judged, "LOGITS_BYTES", limit * 128 * 4)
    subject.log_probabilities(ROWS)
    assert sum(rows for rows, _ in sizes) == len(ROWS)
    assert all(rows == 1 or rows * width <= limit for rows, width in sizes)
