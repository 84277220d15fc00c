"""The turns that a row means: its conversation, its prompt, its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.data import messages, sharegpt
from largeforge.data.faults import RowError, missing, show

if TYPE_CHECKING:
    from largeforge.data.messages import Messages

Row = dict[str, Any]

PAIRS = (("prompt", "response"), ("prompt", "completion"), ("instruction", "output"), ("question", "answer"))
"""Names under which a prompt and its response are known; `input` may add to an `instruction`."""
PAIR_KEYS = frozenset(key for pair in PAIRS for key in pair)
_ALPACA = (("instruction", "output"),)
_CONVERSATIONS = ("messages", "conversations")


def has_pair(keys: set[str]) -> bool:
    """Tell whether a row with these keys has a prompt and its response."""
    return any(keys.issuperset(pair) for pair in PAIRS)


def conversation(row: Row, form: str) -> Messages:
    """Return the turns of a row that ends with the answer to learn."""
    before, last, key = _parts(row, form)
    found = before + last
    if found[-1]["role"] != "assistant":
        raise RowError(f"{key} ends with {found[-1]['role']!r}: must end with assistant, the answer to learn")
    if found[0]["role"] != "user" and all(turn["role"] != "user" for turn in found):
        raise RowError(f"{key} has no user message")
    return found


def asked(row: Row, form: str) -> tuple[Messages, Messages]:
    """Return the prompt and the answer to it, which is empty where a conversation ends with the prompt."""
    before, last, key = _parts(row, form)
    if last and last[-1]["role"] in ("user", "tool") and key in _CONVERSATIONS:
        before, last = before + last, []
    if not before or before[-1]["role"] not in ("user", "tool"):
        raise RowError(f"{key} has no prompt: before the answer there must be a user message")
    if last and (last[0]["role"] != "assistant" or last[-1]["role"] != "assistant"):
        wrong = next(turn["role"] for turn in (last[0], last[-1]) if turn["role"] != "assistant")
        raise RowError(f"{key} begins or ends with {wrong!r}: an answer begins and ends with assistant")
    return before, last


def prompt(row: Row) -> Messages:
    """Return the turns under `prompt`, which must end with a question."""
    found = _turns(row["prompt"], "prompt", "user")
    if found[-1]["role"] not in ("user", "tool"):
        raise RowError(f"prompt[{len(found) - 1}].role = {found[-1]['role']!r}: the prompt must end with user")
    return found


def answer(value: Any, key: str, asked: Messages) -> Messages:
    """Return the turns of an answer, without the prompt that it may repeat."""
    found = _turns(value, key, "assistant")
    if len(found) > len(asked) and found[: len(asked)] == asked:
        found = found[len(asked) :]
    if found[0]["role"] != "assistant":
        raise RowError(f"{key}[0].role = {found[0]['role']!r}: must be assistant, or {key} repeats the whole prompt")
    if found[-1]["role"] != "assistant":
        raise RowError(f"{key} ends with {found[-1]['role']!r}: must end with assistant")
    return found


def with_common_prompt(row: Row) -> Row:
    """Return a row of two whole conversations with what they share as its prompt."""
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if row.get("prompt") is not None or not isinstance(chosen, list) or not isinstance(rejected, list):
        return row
    shared = 0
    for one, other in zip(chosen[:-1], rejected[:-1], strict=False):
        if one != other:
            break
        shared += 1
    while shared and isinstance(chosen[shared - 1], dict) and chosen[shared - 1].get("role") == "assistant":
        shared -= 1
    return {**row, "prompt": chosen[:shared]} if shared else row


def own_system(row: Row, turns: Messages) -> Messages:
    """Return the turns with the row's own system prompt in front."""
    system = row.get("system")
    if system is None or system == "":
        return turns
    if turns[0]["role"] == "system":
        raise RowError("system: the prompt has a system message already")
    return [{"role": "system", "content": messages.text(system, "system")}, *turns]


def with_system(turns: Messages, system: str) -> Messages:
    """Return the turns with the dataset's system prompt in front, if they have none."""
    if not system or turns[0]["role"] == "system":
        return turns
    return [{"role": "system", "content": system}, *turns]


def _parts(row: Row, form: str) -> tuple[Messages, Messages, str]:
    """Return the turns of a row up to its answer, the answer, and the key under which that stands."""
    if form in ("messages", "sharegpt"):
        key = "messages" if form == "messages" else "conversations"
        if row.get(key) is None:
            raise RowError(missing(key, row))
        if form == "messages":
            found = messages.normalise(row[key], key)
        else:
            found = own_system(row, sharegpt.turns(row[key], key))
        return found[:-1], found[-1:], key
    return _pair(row, _ALPACA if form == "alpaca" else PAIRS)


def _pair(row: Row, pairs: tuple[tuple[str, str], ...]) -> tuple[Messages, Messages, str]:
    for prompt_key, response_key in pairs:
        if row.get(prompt_key) is not None and row.get(response_key) is not None:
            break
    else:
        raise RowError(_half_a_pair(row, pairs))
    found = _turns(row[prompt_key], prompt_key, "user")
    extra = row.get("input") if prompt_key == "instruction" else None
    if isinstance(extra, str) and extra.strip():
        found[-1]["content"] += "\n\n" + messages.text(extra, "input")
    elif extra is not None and not isinstance(extra, str):
        raise RowError(f"input = {show(extra)}: must be a string")
    response = _turns(row[response_key], response_key, "assistant")
    return own_system(row, found), response, response_key


def _turns(value: Any, key: str, role: str) -> Messages:
    if isinstance(value, list):
        return messages.normalise(value, key)
    return [{"role": role, "content": messages.text(value, key)}]


def _half_a_pair(row: Row, pairs: tuple[tuple[str, str], ...]) -> str:
    for prompt_key, response_key in pairs:
        if row.get(prompt_key) is not None:
            return missing(response_key, row)
        if row.get(response_key) is not None:
            return missing(prompt_key, row)
    return missing(pairs[0][0], row)
