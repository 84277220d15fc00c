"""Recognise the form of a file's rows and bring each row to the one form that methods train on.

    sft         {"messages": [{"role", "content"}, ...]}            ends with an assistant message
    preference  {"prompt": [...], "chosen": [...], "rejected": [...]}

Further keys of a row are dropped. A key whose value is null counts as absent, as Parquet and
`datasets` write rows of one schema.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from largeforge.data import messages
from largeforge.data.messages import Messages, RowError, show

if TYPE_CHECKING:
    from collections.abc import Iterable

Row = dict[str, Any]
Kind = Literal["sft", "preference"]

KINDS: dict[str, Kind] = {"messages": "sft", "prompt_response": "sft", "preference": "preference"}
"""Form of the rows to the kind of method that trains on them."""
METHODS: dict[Kind, str] = {
    "sft": "methods that imitate answers (sft and the like)",
    "preference": "methods that compare answers (dpo, orpo and the like)",
}
EXAMPLES = {
    "messages": '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}',
    "prompt_response": '{"prompt": "Hi", "response": "Hello!"}',
    "preference": '{"prompt": "Hi", "chosen": "Hello!", "rejected": "Go away."}',
}
PAIRS = (("prompt", "response"), ("prompt", "completion"), ("instruction", "output"), ("question", "answer"))
"""Names under which a prompt and its response are known; `input` may add to an `instruction`."""
_PAIR_KEYS = frozenset(key for pair in PAIRS for key in pair)


def forms_of(row: Row) -> list[str]:
    """Return the forms that a row may be meant to have; a row can carry several."""
    present = {key for key, value in row.items() if value is not None}
    forms = ["messages"] if "messages" in present else []
    if "chosen" in present or "rejected" in present:
        forms.append("preference")
    if any(present.issuperset(pair) for pair in PAIRS) or (not forms and present & _PAIR_KEYS):
        forms.append("prompt_response")
    return forms


def recognise(rows: Iterable[Row], kind: Kind) -> str:
    """Return the form that most rows have, in case of doubt one for `kind`; empty if none is known."""
    votes: Counter[str] = Counter()
    for row in rows:
        forms = forms_of(row)
        votes.update([form for form in forms if KINDS[form] == kind][:1] or forms[:1])
    return votes.most_common(1)[0][0] if votes else ""


def normalise(row: Row, form: str, system: str = "") -> Row:
    """Return a row in the form of its kind, with `system` in front if it has no system message.

    Raises RowError with the key, the value abbreviated, and the rule.
    """
    try:
        return _NORMALISERS[form](row, system)
    except RowError:
        others = forms_of(row)
        if others and form not in others:
            raise RowError(f"a row of the form {others[0]} in a file of the form {form}") from None
        raise


def contents(row: Row) -> int:
    """Return how many characters of text a normalised row has."""
    lists = (row["messages"],) if "messages" in row else (row["prompt"], row["chosen"], row["rejected"])
    return sum(len(message["content"]) for items in lists for message in items)


def _messages(row: Row, system: str) -> Row:
    if row.get("messages") is None:
        raise RowError(_missing("messages", row))
    return {"messages": _conversation(messages.normalise(row["messages"], "messages"), "messages", system)}


def _prompt_response(row: Row, system: str) -> Row:
    for prompt_key, response_key in PAIRS:
        if row.get(prompt_key) is not None and row.get(response_key) is not None:
            break
    else:
        raise RowError(_half_a_pair(row))
    prompt = _turns(row[prompt_key], prompt_key, "user")
    extra = row.get("input") if prompt_key == "instruction" else None
    if isinstance(extra, str) and extra.strip():
        prompt[-1]["content"] += "\n\n" + messages.text(extra, "input")
    elif extra is not None and not isinstance(extra, str):
        raise RowError(f"input = {show(extra)}: must be a string")
    response = _turns(row[response_key], response_key, "assistant")
    return {"messages": _conversation(_own_system(row, prompt) + response, response_key, system)}


def _preference(row: Row, system: str) -> Row:
    for key in ("prompt", "chosen", "rejected"):
        if row.get(key) is None:
            raise RowError(_missing(key, row))
    prompt = _turns(row["prompt"], "prompt", "user")
    if prompt[-1]["role"] not in ("user", "tool"):
        raise RowError(f"prompt[{len(prompt) - 1}].role = {prompt[-1]['role']!r}: the prompt must end with user")
    chosen, rejected = (_answer(row[key], key, prompt) for key in ("chosen", "rejected"))
    if chosen == rejected:
        raise RowError(f"chosen equals rejected: {show(chosen[-1]['content'])}")
    return {"prompt": _with_system(_own_system(row, prompt), system), "chosen": chosen, "rejected": rejected}


_NORMALISERS = {"messages": _messages, "prompt_response": _prompt_response, "preference": _preference}


def _turns(value: Any, key: str, role: str) -> Messages:
    if isinstance(value, list):
        return messages.normalise(value, key)
    return [{"role": role, "content": messages.text(value, key)}]


def _answer(value: Any, key: str, prompt: Messages) -> Messages:
    answer = _turns(value, key, "assistant")
    if len(answer) > len(prompt) and answer[: len(prompt)] == prompt:
        answer = answer[len(prompt) :]
    if answer[0]["role"] != "assistant":
        raise RowError(f"{key}[0].role = {answer[0]['role']!r}: must be assistant, or {key} repeats the whole prompt")
    if answer[-1]["role"] != "assistant":
        raise RowError(f"{key} ends with {answer[-1]['role']!r}: must end with assistant")
    return answer


def _conversation(turns: Messages, key: str, system: str) -> Messages:
    if turns[-1]["role"] != "assistant":
        raise RowError(f"{key} ends with {turns[-1]['role']!r}: must end with assistant, the answer to learn")
    if turns[0]["role"] != "user" and all(turn["role"] != "user" for turn in turns):
        raise RowError(f"{key} has no user message")
    return _with_system(turns, system)


def _own_system(row: Row, turns: Messages) -> Messages:
    system = row.get("system")
    if system is None or system == "":
        return turns
    if turns[0]["role"] == "system":
        raise RowError("system: the prompt has a system message already")
    return [{"role": "system", "content": messages.text(system, "system")}, *turns]


def _with_system(turns: Messages, system: str) -> Messages:
    if not system or turns[0]["role"] == "system":
        return turns
    return [{"role": "system", "content": system}, *turns]


def _half_a_pair(row: Row) -> str:
    for prompt_key, response_key in PAIRS:
        if row.get(prompt_key) is not None:
            return _missing(response_key, row)
        if row.get(response_key) is not None:
            return _missing(prompt_key, row)
    return _missing("prompt", row)


def _missing(key: str, row: Row) -> str:
    state = "is null" if key in row else "is missing"
    return f"{key} {state}; the row has " + (f"the keys {show(', '.join(row))}" if row else "no keys")
