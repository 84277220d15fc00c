"""The same as `engine.py` through transformers: for tokenizers that have their own way of rendering or tokenizing.

One row at a time, exactly as trl does it; slow, and without a guess at what such a tokenizer does inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.data.faults import RowError
from largeforge.tokens.engine import Rendered, Tokens, common, unstable
from largeforge.tokens.template import Messages, marks_answers

if TYPE_CHECKING:
    from collections.abc import Sequence


class SlowEngine:
    """Asks a tokenizer of transformers for the tokens of each conversation."""

    def __init__(self, tokenizer: Any, training_template: str):
        self._tokenizer = tokenizer
        template = tokenizer.chat_template
        text = template.get("default", "") if isinstance(template, dict) else template or ""
        self._marking = (text if marks_answers(text) else training_template) if tokenizer.is_fast else ""

    def whole(self, messages: Messages, tools: Sequence[Any] | None) -> Rendered:
        """Render a conversation of which everything counts."""
        ids = self._ids(messages, tools)
        return Rendered(done=Tokens(ids, [(0, len(ids))]))

    def question(self, messages: Messages, tools: Sequence[Any] | None) -> Rendered:
        """Render a prompt with the start of an answer."""
        return Rendered(done=Tokens(self._ids(messages, tools, add_generation_prompt=True)))

    def answered(self, prompt: Messages, answer: Messages, tools: Sequence[Any] | None) -> Rendered:
        """Render a conversation of which the answer counts."""
        asked = self._ids(prompt, tools, add_generation_prompt=True) if prompt else []
        ids = self._ids([*prompt, *answer], tools)
        start = common(asked, ids)
        return Rendered(done=Tokens(ids, [(start, len(ids))] if start < len(ids) else [], start, len(asked) - start))

    def turns(self, messages: Messages, tools: Sequence[Any] | None) -> Rendered:
        """Render a conversation of which every assistant message counts."""
        if self._marking:
            found = self._apply(
                messages, tools, return_dict=True, return_assistant_tokens_mask=True, chat_template=self._marking
            )
            learnt = [(place, place + 1) for place, counts in enumerate(found["assistant_masks"]) if counts]
            return Rendered(done=Tokens(list(found["input_ids"]), learnt))
        ids = self._ids(messages, tools)
        learnt = []
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            asked = self._ids(messages[:number], tools, add_generation_prompt=True) if number else []
            said = self._ids(messages[: number + 1], tools)
            if ids[: len(said)] != said:
                raise RowError(unstable(number))
            learnt.append((common(asked, said), len(said)))
        return Rendered(done=Tokens(ids, learnt))

    def plain(self, text: str) -> Rendered:
        """Render a text without a template, with the end-of-text token."""
        eos = self._tokenizer.eos_token or ""
        ids = [int(token) for token in self._tokenizer(text if text.endswith(eos) else text + eos)["input_ids"]]
        return Rendered(done=Tokens(ids, [(0, len(ids))]))

    def encode(self, rendered: Sequence[Rendered]) -> list[Tokens]:
        """Return the tokens, which are there already."""
        return [one.done for one in rendered if one.done is not None]

    def _ids(self, messages: Messages, tools: Sequence[Any] | None, **options: Any) -> list[int]:
        return [int(token) for token in self._apply(messages, tools, return_dict=False, **options)]

    def _apply(self, messages: Messages, tools: Sequence[Any] | None, **options: Any) -> Any:
        try:
            return self._tokenizer.apply_chat_template(list(messages), tools=tools or None, tokenize=True, **options)
        except Exception as error:  # a template is a program of somebody else
            reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
            raise RowError(f"the chat template refuses it: {reason}") from error
