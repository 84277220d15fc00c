"""A prepared row of any kind, as the sequences of tokens that a trainer takes.

    sft         input_ids, labels                    labels are -100 where nothing is learnt
    text        input_ids, labels
    preference  prompt_ids, chosen_ids, rejected_ids
    unpaired    prompt_ids, completion_ids, label
    prompt      prompt_ids

These are the columns that trl 1.16 makes of conversations itself (`_prepare_dataset` of its trainers).
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from largeforge.data.faults import RowError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.data.formats import Kind, Row
    from largeforge.recipe.training import Learn
    from largeforge.tokens.engine import Engine, Rendered, Tokens

COLUMNS: dict[Kind, tuple[str, ...]] = {
    "sft": ("input_ids", "labels"),
    "text": ("input_ids", "labels"),
    "preference": ("prompt_ids", "chosen_ids", "rejected_ids"),
    "unpaired": ("prompt_ids", "completion_ids"),
    "prompt": ("prompt_ids",),
}
"""Columns of token ids; an unpaired row has its `label` besides."""
IGNORED = -100
"""Label of a token that does not count in the loss, as torch's cross-entropy has it."""


def kind_of(row: Row) -> Kind:
    """Return the kind of a prepared row."""
    if "messages" in row:
        return "sft"
    if "text" in row:
        return "text"
    if "chosen" in row:
        return "preference"
    return "unpaired" if "completion" in row else "prompt"


def rendered(engine: Engine, row: Row, kind: Kind, learn: Learn) -> list[Rendered]:
    """Return the texts of a row: of a preference, the prompt with each answer.

    Raises RowError when the chat template cannot render it.
    """
    tools = row.get("tools")
    if kind == "text":
        return [engine.plain(row["text"])]
    if kind == "prompt":
        return [engine.question(row["prompt"], tools)]
    if kind == "preference":
        return [engine.answered(row["prompt"], row[side], tools) for side in ("chosen", "rejected")]
    if kind == "unpaired":
        return [engine.answered(row["prompt"], row["completion"], tools)]
    if learn == "completion":
        return [engine.answered(row["messages"][:-1], row["messages"][-1:], tools)]
    return [engine.turns(row["messages"], tools) if learn == "assistant" else engine.whole(row["messages"], tools)]


def columns(tokens: Sequence[Tokens], kind: Kind) -> list[array[int]]:
    """Return the token ids of each column of `COLUMNS`.

    Raises RowError when nothing of the row would be learnt.
    """
    first = tokens[0]
    if kind == "prompt":
        return [array("i", first.ids)]
    if kind in ("sft", "text"):
        if not first.learnt:
            raise RowError("nothing of it is learnt: the chat template leaves no token to the answer")
        return [array("i", first.ids), labels(first)]
    length = min(one.prompt_length for one in tokens)
    if any(len(one.ids) == length for one in tokens):
        raise RowError("an answer has no tokens of its own: the chat template leaves it out")
    return [array("i", first.ids[:length]), *(array("i", one.ids[length:]) for one in tokens)]


def labels(tokens: Tokens) -> array[int]:
    """Return the token ids with `IGNORED` for those that are not learnt."""
    found = array("i", [IGNORED]) * len(tokens.ids)
    for start, end in tokens.learnt:
        found[start:end] = array("i", tokens.ids[start:end])
    return found


def length(tokens: Sequence[Tokens]) -> int:
    """Return the tokens of the longest sequence of a row."""
    return max(len(one.ids) for one in tokens)


def plain(row: Row) -> dict[str, Any]:
    """Return a row as a trainer takes it, without where it came from and what kind of row it is."""
    return {key: value for key, value in row.items() if key not in ("source", "slices")}
