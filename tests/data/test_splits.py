"""The split depends on prompts only: not on order, other rows, answers, case or white space."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from largeforge.data.splits import Splitter

PROMPTS = st.lists(st.text(min_size=1, max_size=12), max_size=30)


def row(prompt: str, answer: str = "a", system: str = "") -> dict[str, Any]:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"messages": [{"role": "system", "content": system}, *turns] if system else turns}


def held(prompts: list[str], fraction: float = 0.3) -> set[str]:
    splitter = Splitter(fraction)
    return {prompt for prompt in prompts if splitter.is_heldout(splitter.keys(row(prompt)).prompt)}


@given(PROMPTS, PROMPTS, st.randoms(use_true_random=False))
def test_adding_and_reordering_rows_moves_none(prompts: list[str], added: list[str], random: Any) -> None:
    mixed = prompts + added
    random.shuffle(mixed)
    assert held(mixed) & set(prompts) == held(prompts)


@given(st.text(min_size=1), st.text(), st.text())
def test_the_answer_and_the_writing_of_a_prompt_do_not_count(prompt: str, answer: str, other: str) -> None:
    splitter = Splitter(0.5)
    assert splitter.keys(row(prompt, answer)) == splitter.keys(row(f"  {prompt}\n", other))
    assert splitter.keys(row("Hello  THERE")) == splitter.keys(row("hello there"))


def test_the_share_is_about_the_fraction() -> None:
    prompts = [f"prompt {index}" for index in range(10_000)]
    assert 450 < len(held(prompts, 0.05)) < 550
    assert held(prompts, 0.05) < held(prompts, 0.2)
    assert held(prompts, 0.0) == set()


def test_the_split_of_today_is_the_split_of_tomorrow() -> None:
    digest = sha256(b"user\x1fhow do i return a parcel?\x1e").digest()
    key = Splitter(0.05).keys(row("How do I return  a Parcel?")).prompt
    assert key == int.from_bytes(digest[:8]) == 12365297401498921523


def test_only_a_system_prompt_of_the_row_itself_counts() -> None:
    splitter = Splitter(0.5, system="Be brief.")
    assert splitter.keys(row("Hi", system="Be brief.")) == splitter.keys(row("Hi"))
    assert splitter.keys(row("Hi", system="Be long.")) != splitter.keys(row("Hi"))


def test_messages_do_not_run_into_each_other() -> None:
    splitter = Splitter(0.5)
    one = {"messages": [*row("a", "b")["messages"], *row("c")["messages"]]}
    other = {"messages": [*row("a", "b c")["messages"], *row("c")["messages"]]}
    assert splitter.keys(one).prompt != splitter.keys(other).prompt


def test_each_answer_of_a_conversation_has_the_key_of_its_prompt() -> None:
    splitter = Splitter(0.5)
    short, long = row("a", "b"), {"messages": [*row("a", "b")["messages"], *row("c", "d")["messages"]]}
    assert splitter.keys(short).earlier == ()
    assert splitter.keys(long).earlier == (splitter.keys(short).prompt,)


def test_a_preference_row_has_the_key_of_its_prompt() -> None:
    splitter = Splitter(0.5)
    pair = {"prompt": row("a")["messages"][:1], "chosen": [], "rejected": []}
    assert splitter.keys(pair) == splitter.keys(row("a"))
