"""Answers that were written down: those of another evaluation, or rows with a prompt and an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from largeforge.errors import StageError

_ANSWERS = ("answer", "response", "completion")


def read_answers(path: Path, *, who: str = "model") -> dict[str, str]:
    """Return the answers of a JSONL file by the key of their prompts (`Subject.key`).

    A line has `prompt`, text or messages, and `answer`; of `answers.jsonl` of an evaluation those of `who` are read.
    Raises StageError that names the file and the line.
    """
    found: dict[str, str] = {}
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(f"answers cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            key, answer = _read(json.loads(line), who)
        except (ValueError, KeyError, TypeError) as error:
            rule = 'a line is {"prompt": text or messages, "answer": text}'
            raise StageError(f"{path}:{number}: {rule} ({type(error).__name__}: {error})") from error
        found[key] = answer
    return found


def _read(row: dict[str, Any], who: str) -> tuple[str, str]:
    prompt = row["prompt"]
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    if "answers" in row:
        answer = row["answers"][who]
    else:
        answer = next((row[name] for name in _ANSWERS if isinstance(row.get(name), str)), None)
    if not isinstance(answer, str):
        raise ValueError("no text of an answer")
    return json.dumps(messages, ensure_ascii=False, sort_keys=True), answer
