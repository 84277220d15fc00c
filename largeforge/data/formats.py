"""Recognise the form of a file's rows and bring each row to the one that its kind of method takes.

    sft         {"messages": [{"role", "content"}, ...]}            ends with an assistant message
    preference  {"prompt": [...], "chosen": [...], "rejected": [...]}
    unpaired    {"prompt": [...], "completion": [...], "label": true or false}
    text        {"text": "..."}
    prompt      {"prompt": [...], "answer": "..."}                  the answer may be ""

Rows with tools also have `tools` (`tool_calls.py`). Further keys of a row are dropped. A key whose
value is null counts as absent, as Parquet and `datasets` write rows of one schema.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, get_args

from largeforge.data import turns
from largeforge.data.faults import RowError, missing, show
from largeforge.data.messages import text
from largeforge.data.tool_calls import as_text, tools

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from largeforge.data.messages import Messages

Row = dict[str, Any]
Kind = Literal["sft", "preference", "unpaired", "text", "prompt"]
Form = Literal["messages", "prompt_response", "alpaca", "sharegpt", "preference", "unpaired", "prompt", "text"]

FORMS: tuple[str, ...] = get_args(Form)
KINDS: dict[str, tuple[Kind, ...]] = {
    "messages": ("sft", "prompt"),
    "prompt_response": ("sft", "prompt"),
    "alpaca": ("sft", "prompt"),
    "sharegpt": ("sft", "prompt"),
    "preference": ("preference", "prompt"),
    "unpaired": ("unpaired",),
    "prompt": ("prompt",),
    "text": ("text",),
}
"""Form of the rows to the kinds of methods that train on them; the first is what it is made for."""
METHODS: dict[Kind, str] = {
    "sft": "methods that imitate answers (sft and the like)",
    "preference": "methods that compare answers (dpo, orpo and the like)",
    "unpaired": "methods that learn from rated answers (kto and the like)",
    "text": "methods that continue text (pretrain and the like)",
    "prompt": "methods that sample answers to prompts (grpo and the like)",
}
EXAMPLES = {
    "messages": '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}',
    "prompt_response": '{"prompt": "Hi", "response": "Hello!"}',
    "alpaca": '{"instruction": "Greet back.", "input": "Hi", "output": "Hello!"}',
    "sharegpt": '{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]}',
    "preference": '{"prompt": "Hi", "chosen": "Hello!", "rejected": "Go away."}',
    "unpaired": '{"prompt": "Hi", "completion": "Hello!", "label": true}',
    "prompt": '{"prompt": "What is 2 + 3?", "answer": "5"}',
    "text": '{"text": "Parcels leave our house at four o\'clock."}',
}
ANSWERS = ("answer", "solution", "reference")
"""Names under which the right answer to a bare prompt is known."""
_SIDES = ("messages", "prompt", "chosen", "rejected", "completion")
_TRUTH = {"true": True, "false": False, "1": True, "0": False}


def forms_for(kind: Kind) -> list[str]:
    """Return the forms whose rows a kind of method takes, those that are made for it first."""
    forms = [form for form, kinds in KINDS.items() if kind in kinds]
    return sorted(forms, key=lambda form: KINDS[form][0] != kind)


def forms_of(row: Row) -> list[str]:
    """Return the forms that a row may be meant to have; a row can carry several."""
    present = {key for key, value in row.items() if value is not None}
    if is_rated(row) and (turns.has_pair(present) or "messages" in present):
        return ["unpaired"]
    forms = ["messages"] if "messages" in present else []
    if "conversations" in present:
        forms.append("sharegpt")
    if "chosen" in present or "rejected" in present:
        forms.append("preference")
    if present.issuperset(("instruction", "output")):
        forms.append("alpaca")
    if turns.has_pair(present):
        forms += ["prompt_response", "unpaired"] if "label" in present else ["prompt_response"]
    elif not forms and "prompt" in present:
        forms += ["prompt", "prompt_response"]
    elif not forms and present & turns.PAIR_KEYS:
        forms.append("prompt_response")
    return [*forms, "text"] if "text" in present else forms


def is_rated(row: Row) -> bool:
    """Tell whether a row has a label that says whether its answer is wanted: such a row is never imitated."""
    return _truth(row.get("label")) is not None


def recognise(rows: Iterable[Row], kind: Kind) -> str:
    """Return the form that most rows have, in case of doubt one for `kind`; empty if none is known."""
    votes: Counter[str] = Counter()
    for row in rows:
        forms = forms_of(row)
        votes.update([form for form in forms if kind in KINDS[form]][:1] or forms[:1])
    return votes.most_common(1)[0][0] if votes else ""


def renamed(row: Row, columns: Mapping[str, str]) -> Row:
    """Return a row whose columns have the keys that forms know, given key to column."""
    if not columns:
        return row
    taken = {*columns, *columns.values()}
    rest = {key: value for key, value in row.items() if key not in taken}
    return {**{key: row[column] for key, column in columns.items() if column in row}, **rest}


def normalise(row: Row, form: str, kind: Kind, *, system: str = "") -> Row:
    """Return a row in the form of its kind, with `system` in front if it has no system message.

    Raises RowError with the key, the value abbreviated, and the rule.
    """
    try:
        if form == "text":
            return {"text": text(row["text"], "text")} if row.get("text") is not None else _lacks("text", row)
        found = _OTHERS[form](row, system) if form in _OTHERS else _conversation(row, form, kind, system)
        if kind == "prompt" and form == "preference":
            found = {"prompt": found["prompt"], "answer": _answer_text(found["chosen"])}
    except RowError:
        others = forms_of(row)
        if others and form not in others:
            raise RowError(f"a row of the form {others[0]} in a file of the form {form}") from None
        raise
    described = tools(row["tools"], "tools") if row.get("tools") else []
    return {**found, "tools": described} if described else found


def sliced(row: Row, given: Row, columns: Sequence[str]) -> Row:
    """Return a normalised row with the values that the row as it was given has in some columns, as text."""
    kept = {column: str(given[column]) for column in columns if given.get(column) is not None}
    return {**row, "slices": kept} if kept else row


def sequences(row: Row) -> Iterator[list[str]]:
    """Yield the texts of each sequence that a normalised row makes: of a preference, the prompt with each answer."""
    if "text" in row:
        yield [row["text"]]
        return
    start = [json.dumps(row["tools"], ensure_ascii=False)] if "tools" in row else []
    start += _texts(row["messages"] if "messages" in row else row["prompt"])
    endings = [_texts(row[side]) for side in ("chosen", "rejected", "completion") if side in row]
    yield from ([*start, *ending] for ending in endings or [[]])


def said(row: Row) -> str:
    """Return what a normalised row says, apart from system prompts and descriptions of tools."""
    if "text" in row:
        return str(row["text"])
    turns_ = (turn for key in _SIDES for turn in row.get(key, ()) if turn["role"] != "system")
    return "\n".join(_texts(turns_))


def contents(row: Row) -> int:
    """Return how many characters of text a normalised row has."""
    if "text" in row:
        return len(row["text"])
    sides = [row[key] for key in _SIDES if key in row]
    size = sum(len(message["content"]) for items in sides for message in items) + len(row.get("answer", ""))
    calls = (message["tool_calls"] for items in sides for message in items if "tool_calls" in message)
    return size + sum(len(as_text(found)) for found in calls)


def _texts(items: Iterable[dict[str, Any]]) -> list[str]:
    return [
        message["content"] + (as_text(message["tool_calls"]) if "tool_calls" in message else "") for message in items
    ]


def _conversation(row: Row, form: str, kind: Kind, system: str) -> Row:
    if is_rated(row) and forms_of(row) == ["unpaired"]:
        raise RowError(f"label = {show(row['label'])}: the answer is rated, not to be imitated")
    if kind == "prompt":
        prompt, answer = turns.asked(row, form)
        return {"prompt": turns.with_system(prompt, system), "answer": _answer_text(answer)}
    return {"messages": turns.with_system(turns.conversation(row, form), system)}


def _preference(row: Row, system: str) -> Row:
    row = turns.with_common_prompt(row)
    for key in ("prompt", "chosen", "rejected"):
        if row.get(key) is None:
            raise RowError(missing(key, row))
    prompt = turns.prompt(row)
    chosen, rejected = (turns.answer(row[key], key, prompt) for key in ("chosen", "rejected"))
    if chosen == rejected:
        raise RowError(f"chosen equals rejected: {show(chosen[-1]['content'])}")
    return {"prompt": turns.with_system(turns.own_system(row, prompt), system), "chosen": chosen, "rejected": rejected}


def _unpaired(row: Row, system: str) -> Row:
    if row.get("label") is None:
        raise RowError(missing("label", row))
    label = _truth(row["label"])
    if label is None:
        raise RowError(f"label = {show(row['label'])}: must be true or false")
    prompt, completion = turns.asked(row, "messages" if row.get("messages") is not None else "prompt_response")
    if not completion:
        raise RowError("messages ends with 'user': must end with assistant, the answer that the label rates")
    return {"prompt": turns.with_system(prompt, system), "completion": completion, "label": label}


def _prompt(row: Row, system: str) -> Row:
    if row.get("prompt") is None:
        raise RowError(missing("prompt", row))
    prompt = turns.own_system(row, turns.prompt(row))
    key = next((name for name in ANSWERS if row.get(name) is not None), "")
    given = row[key] if key else ""
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = str(given)
    answer = text(given, key) if given != "" else ""
    return {"prompt": turns.with_system(prompt, system), "answer": answer}


_OTHERS = {"preference": _preference, "unpaired": _unpaired, "prompt": _prompt}


def _answer_text(answer: Messages) -> str:
    """Return what a reward compares with: the last answer, or the calls it makes; empty where there is none."""
    if not answer:
        return ""
    last = answer[-1]
    return last["content"] or (as_text(last["tool_calls"]) if "tool_calls" in last else "")


def _truth(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _TRUTH.get(value.strip().lower())
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def _lacks(key: str, row: Row) -> Row:
    raise RowError(missing(key, row))
