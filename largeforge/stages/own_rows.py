"""Rows that an evaluator brings in a file of its own, instead of the held-out ones of the dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from largeforge.errors import StageError

_PROMPTS, _ANSWERS = ("prompt", "question"), ("answer", "response", "completion")
_RULE = 'a row is {"prompt": text or messages, ...} or {"messages": [...], ...}'


def read_own_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSONL file, each with `prompt` as messages, `answer` ("" where there is none) and `source`.

    What else a row has stays with it, for its evaluator. Raises StageError that names the file and the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(f"rows of an evaluator cannot be read: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                rows.append({**_row(json.loads(line)), "source": f"{path.name}:{number}"})
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise StageError(f"{path}:{number}: {_RULE} ({type(error).__name__}: {error})") from error
    if not rows:
        raise StageError(f"{path} has no rows")
    return rows


def _row(given: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in given.items() if key != "messages" and value is not None}
    if "messages" in given:
        messages = _messages(given["messages"])
        answered = messages[-1]["role"] == "assistant"
        spoken = messages[-1]["content"] if answered else ""
        return {"answer": spoken, **rest, "prompt": messages[:-1] if answered else messages}
    prompt = next((rest[name] for name in _PROMPTS if name in rest), None)
    if prompt is None:
        raise ValueError("no prompt")
    answer = next((rest[name] for name in _ANSWERS if name in rest), "")
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else _messages(prompt)
    return {**rest, "prompt": messages, "answer": answer}


def _messages(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not given or not all(isinstance(one["role"], str) and isinstance(one["content"], str) for one in given):
        raise ValueError("a message has a role and a content, both text")
    return [dict(one) for one in given]
