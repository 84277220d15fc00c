"""Whether what is served is what was trained: tokens, answers and likelihoods, side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_GENERATION = (
    "eos_token_id", "bos_token_id", "repetition_penalty", "no_repeat_ngram_size", "suppress_tokens",
    "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id",
)  # fmt: skip
"""Settings of generation_config.json that change greedy answers or where they end."""


@dataclass(frozen=True)
class Prompt:
    """One prompt as the training and the live server know it."""

    trained_ids: Sequence[int]
    served_ids: Sequence[int]
    """As the live server says."""
    trained_answer: str
    served_answer: str
    trained_logprob: float
    """Summed log-probability of the trained model's own answer, in nats."""
    served_logprob: float
    """The same answer's, by the live server."""
    answer_tokens: int
    source: str = ""


@dataclass(frozen=True)
class Parity:
    """What the comparison of all prompts found."""

    same_tokens: float
    """Share of prompts with the same token ids everywhere."""
    same_answers: float
    """Share of prompts with the same greedy answer."""
    logprob_difference: float
    """Mean absolute difference per token of the trained model's answers, in nats."""
    examples: list[str] = field(default_factory=list)
    """The first prompt that differs in each way, told in words."""

    def metrics(self) -> dict[str, float]:
        """Return the figures under the names that gates show."""
        return {
            "parity.same_tokens": self.same_tokens, "parity.same_answers": self.same_answers,
            "parity.logprob_difference": self.logprob_difference,
        }  # fmt: skip


def compare(prompts: Sequence[Prompt]) -> Parity:
    """Compare what is served with what was trained, over some prompts."""
    told: dict[str, str] = {}
    same_tokens, same_answers, differences = 0, 0, []
    for prompt in prompts:
        where = f"the prompt of {prompt.source}" if prompt.source else "a prompt"
        trained, served = list(prompt.trained_ids), list(prompt.served_ids)
        if trained == served:
            same_tokens += 1
        else:
            told.setdefault("tokens", f"{where} has other tokens in the server: {first_difference(trained, served)}")
        if _whole(prompt.trained_answer) == _whole(prompt.served_answer):
            same_answers += 1
        else:
            answers = f"{_short(prompt.served_answer)}, and the trained model {_short(prompt.trained_answer)}"
            told.setdefault("answers", f"to {where} the server answers {answers}")
        if prompt.answer_tokens:
            gap = abs(prompt.trained_logprob - prompt.served_logprob)
            differences.append(gap / prompt.answer_tokens if math.isfinite(gap) else math.inf)
    count = len(prompts)
    mean = sum(differences) / len(differences) if differences else 0.0
    return Parity(same_tokens / count, same_answers / count, mean, list(told.values()))


def files_faults(trained: Path, whole: Path, served: Path) -> list[str]:
    """Return what differs in the files that decide where and how answers end.

    `trained` has the tokenizer of the training, `whole` the weights that it trained, or put an adapter on. What is
    served as an adapter has no generation settings of its own, nor has a model that is not in a folder.
    """
    tokens = _changes(_special_tokens(trained), _special_tokens(served))
    faults = [
        f"special token {name}: trained with {_short(before)}, served with {_short(after)}"
        for name, before, after in tokens
        if before is not None  # one that is named in addition changes no text into other tokens
    ]
    settings = [_read(folder / "generation_config.json") for folder in (whole, served)]
    if all(settings):
        faults += [
            f"generation_config.json {name}: trained with {_short(before)}, served with {_short(after)}"
            for name, before, after in _changes(*settings)
            if name in _GENERATION
        ]
    elif settings[0] and not (served / "adapter_config.json").is_file():
        faults.append("generation_config.json is missing from what is to be served")
    return faults


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    names = dict.fromkeys([*before, *after])
    return [(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def _special_tokens(folder: Path) -> dict[str, Any]:
    """Return the special tokens that a tokenizer's settings name, and those that it adds, as text."""
    settings = _read(folder / "tokenizer_config.json")
    named = {key: _text(value) for key, value in settings.items() if key.endswith("_token") and value}
    tokens = _read(folder / "tokenizer.json").get("added_tokens", [])
    added = {f"{token['content']!r}": token.get("id") for token in tokens if token.get("special")}
    return {**named, **added}


def _text(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def first_difference(ours: list[int], theirs: list[int]) -> str:
    """Return in words where tokens part from those of the training."""
    place = next((at for at, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other), None)
    place = min(len(ours), len(theirs)) if place is None else place
    return f"token {place} on is {theirs[place : place + 4]}, trained with {ours[place : place + 4]}"


def _whole(answer: str) -> str:
    """Return an answer without white space around it, or a character that it was cut off in."""
    return answer.strip().rstrip("\ufffd")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
