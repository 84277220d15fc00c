"""Tokens of a conversation with the files of models: `python -m largeforge.tokens.probe`, a program of its own.

Reads a JSON list of `{name, location, revision, chat_template}` from standard input, and writes `{name: {messages,
ids}}`, or `{name: {error}}`, to standard output. With it a serving stage keeps transformers out of its own process.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

CONVERSATIONS: tuple[list[dict[str, str]], ...] = (
    [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "Where is  my order 4711?"},
        {"role": "assistant", "content": "On its way – Thursday."},
        {"role": "user", "content": "And the invoice?\nThanks"},
    ],
    [
        {"role": "user", "content": "Where is  my order 4711?"},
        {"role": "assistant", "content": "On its way – Thursday."},
        {"role": "user", "content": "And the invoice?\nThanks"},
    ],
    [{"role": "user", "content": "Where is  my order 4711?\nThanks"}],
)
"""The first one that a template accepts is used: not every one knows a system message, or several turns."""


def probe(location: str, *, revision: str, chat_template: str) -> dict[str, Any]:
    """Return a conversation and its tokens up to where the answer begins, or why there are none."""
    from transformers import AutoTokenizer

    from largeforge.data.faults import RowError
    from largeforge.tokens import loaded

    try:
        tokenizer = AutoTokenizer.from_pretrained(location, revision=revision or None)
    except Exception as error:  # of whatever kind: it is told, and nothing is served worse for it
        return {"error": f"{type(error).__name__}: {(str(error).splitlines() or ['?'])[0][:200]}"}
    if chat_template:
        tokenizer.chat_template = chat_template
    if not tokenizer.chat_template:
        return {"error": "its tokenizer has no chat template"}
    engine = loaded.engine(tokenizer)
    reason = ""
    for messages in CONVERSATIONS:
        try:
            return {"messages": messages, "ids": engine.encode([engine.question(messages, None)])[0].ids}
        except RowError as error:
            reason = str(error)
    return {"error": reason}


def main() -> None:
    """Answer for all models on standard input."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    found = {
        model["name"]: probe(model["location"], revision=model["revision"], chat_template=model["chat_template"])
        for model in json.load(sys.stdin)
    }
    out.write(json.dumps(found))
    out.flush()


if __name__ == "__main__":
    main()
