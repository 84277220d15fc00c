"""Text to token ids, and which of them are the answer: for tokenizers of the package `tokenizers`.

The ids are those that transformers' `apply_chat_template` returns, and the answer begins where trl says that it
does: after what the tokenized prompt and the tokenized conversation have in common. The prompt need not be tokenized
for that. An added token such as `<|im_start|>` is cut out of a text before anything else happens to it, and what
stands before and after is tokenized on its own (tokenizers, `AddedVocabulary`). So up to the last added token of the
prompt both agree, and only the few characters behind it (`assistant\n`) are tokenized twice, once for all rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from largeforge.data.faults import RowError
from largeforge.tokens.template import Messages, Source, Template, marks_answers

if TYPE_CHECKING:
    from collections.abc import Sequence

Span = tuple[int, int]

MEMO_CHARACTERS = 64
"""Longest end of a prompt that is kept with its tokens; a longer one has content and hardly comes again."""
MEMO_SIZE = 10_000


@dataclass(frozen=True)
class Tokens:
    """Token ids with what is learnt of them."""

    ids: list[int]
    learnt: list[Span] = field(default_factory=list)
    """From where to where, in tokens, the loss counts."""
    prompt_length: int = 0
    """Tokens that the prompt and the whole have in common."""
    overhang: int = 0
    """Tokens at the end of the prompt that are different in the whole: what a model sees when it is asked."""


@dataclass(frozen=True)
class Rendered:
    """A text that waits for its tokens, or the tokens already where an engine does both at once."""

    text: str = ""
    prompt: str | None = None
    spans: tuple[Span, ...] | None = None
    """From where to where, in characters, the loss counts."""
    special: bool = False
    """Whether the tokenizer adds its own tokens (BOS) to the text."""
    done: Tokens | None = None


class Engine(Protocol):
    """What turns conversations into tokens; `render` methods raise RowError, `encode` does not."""

    def whole(self, messages: Messages, tools: Sequence[Any] | None) -> Rendered:
        """Render a conversation of which everything counts."""

    def question(self, messages: Messages, tools: Sequence[Any] | None) -> Rendered:
        """Render a prompt with the start of an answer."""

    def answered(self, prompt: Messages, answer: Messages, tools: Sequence[Any] | None) -> Rendered:
        """Render a conversation of which the answer counts."""

    def turns(self, messages: Messages, tools: Sequence[Any] | None) -> Rendered:
        """Render a conversation of which every assistant message counts."""

    def plain(self, text: str) -> Rendered:
        """Render a text without a template, with the end-of-text token."""

    def encode(self, rendered: Sequence[Rendered]) -> list[Tokens]:
        """Return the tokens of many texts."""


@dataclass(frozen=True)
class Spec:
    """All that decides how conversations become tokens; plain data, so that another process can do it."""

    tokenizer: str
    """The `tokenizer.json`, as text."""
    template: Source
    training_template: str
    """Template for answers in all turns, where `template` does not mark them and trl knows it; else empty."""
    variables: dict[str, str]
    """Special tokens by name (`bos_token`, …), which templates may use."""
    splits_special_tokens: bool = False
    """Whether special tokens in a text are taken apart like other text."""


class FastEngine:
    """Renders with `Template` and tokenizes many texts at once."""

    def __init__(self, spec: Spec):
        from tokenizers import Tokenizer

        self.spec = spec
        self._template = Template(spec.template, spec.variables)
        marked = spec.template if self._template.marks_answers else spec.training_template
        self._marking = Template(marked, spec.variables) if marked and marks_answers(_default(marked)) else None
        self._eos = spec.variables.get("eos_token", "")
        self._tokenizer = Tokenizer.from_str(spec.tokenizer)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = spec.splits_special_tokens
        added = self._tokenizer.get_added_tokens_decoder()
        self._cutting = {
            token.content: number
            for number, token in added.items()
            if not (token.normalized or token.single_word or spec.splits_special_tokens) and token.content
        }
        self._usual = ""
        """The added token that prompts end with, as far as is known."""
        self._tails: dict[str, list[int]] = {}

    def whole(self, messages: Messages, tools: Sequence[Any] | None) -> Rendered:
        """Render a conversation of which everything counts."""
        return Rendered(self._template.render(messages, tools))

    def question(self, messages: Messages, tools: Sequence[Any] | None) -> Rendered:
        """Render a prompt with the start of an answer."""
        return Rendered(self._template.render(messages, tools, generation_prompt=True), spans=())

    def answered(self, prompt: Messages, answer: Messages, tools: Sequence[Any] | None) -> Rendered:
        """Render a conversation of which the answer counts."""
        asked = self._template.render(prompt, tools, generation_prompt=True) if prompt else ""
        return Rendered(self._template.render([*prompt, *answer], tools), prompt=asked)

    def turns(self, messages: Messages, tools: Sequence[Any] | None) -> Rendered:
        """Render a conversation of which every assistant message counts."""
        if self._marking is not None:
            text, spans = self._marking.render_marked(messages, tools)
            return Rendered(text, spans=tuple(spans))
        return self._turn_by_turn(messages, tools)

    def plain(self, text: str) -> Rendered:
        """Render a text without a template, with the end-of-text token."""
        return Rendered(text if text.endswith(self._eos) else text + self._eos, special=True)

    def encode(self, rendered: Sequence[Rendered]) -> list[Tokens]:
        """Return the tokens of many texts; all of them either with the tokenizer's own tokens or without."""
        special = any(one.special for one in rendered)
        encodings = self._tokenizer.encode_batch([one.text for one in rendered], add_special_tokens=special)
        return [self._sequence(one, encoding) for one, encoding in zip(rendered, encodings, strict=True)]

    def _turn_by_turn(self, messages: Messages, tools: Sequence[Any] | None) -> Rendered:
        """Find the assistant's messages by rendering the conversation up to each of them."""
        text = self._template.render(messages, tools)
        spans = []
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            asked = self._template.render(messages[:number], tools, generation_prompt=True) if number else ""
            said = self._template.render(messages[: number + 1], tools)
            if not text.startswith(said):
                raise RowError(unstable(number))
            spans.append((len(asked) if said.startswith(asked) else common(asked, said), len(said)))
        return Rendered(text, spans=tuple(spans))

    def _sequence(self, rendered: Rendered, encoding: Any) -> Tokens:
        ids: list[int] = encoding.ids
        if rendered.prompt is not None:
            start, length = self._common(rendered.text, rendered.prompt, encoding, ids)
            return Tokens(ids, [(start, len(ids))] if start < len(ids) else [], start, length - start)
        if rendered.spans is None:
            return Tokens(ids, [(0, len(ids))] if ids else [])
        return Tokens(ids, [span for one in rendered.spans if (span := _in_tokens(one, encoding, len(ids)))])

    def _common(self, text: str, prompt: str, encoding: Any, ids: list[int]) -> tuple[int, int]:
        """Return how many tokens the prompt has in common with the whole, and how many it has."""
        cut = self._cut(prompt)
        if cut > 0 and text.startswith(prompt[:cut]):
            place = encoding.char_to_token(cut)
            is_cut = place is not None and ids[place] == self._cutting[self._usual]
            if is_cut and text.startswith(self._usual, cut) and encoding.token_to_chars(place)[0] <= cut:
                tail = self._tail(prompt[cut:])
                return place + common(tail, ids[place:]), place + len(tail)
        tail = self._tail(prompt)
        return common(tail, ids), len(tail)

    def _cut(self, prompt: str) -> int:
        """Return where the last added token of a prompt begins, -1 when there is none; it becomes the usual one."""
        cut = prompt.rfind(self._usual) if self._usual else -1
        if cut >= 0 and prompt[cut:] in self._tails:
            return cut  # as in the row before
        cut = -1
        for token in self._cutting:
            place = prompt.rfind(token, max(cut, 0))
            if place > cut or (place == cut >= 0 and len(token) > len(self._usual)):
                cut, self._usual = place, token
        return cut

    def _tail(self, text: str) -> list[int]:
        """Return the tokens of the end of a prompt."""
        known = self._tails.get(text)
        if known is None:
            known = self._tokenizer.encode(text, add_special_tokens=False).ids if text else []
            if len(text) <= MEMO_CHARACTERS and len(self._tails) < MEMO_SIZE:
                self._tails[text] = known
        return known


def common(ids: Sequence[object], others: Sequence[object]) -> int:
    """Return how many tokens (or characters) two sequences begin with in common."""
    length = 0
    for one, other in zip(ids, others, strict=False):
        if one != other:
            break
        length += 1
    return length


def unstable(number: int) -> str:
    """Return why the turns of a conversation cannot be told apart."""
    return (
        f"message {number} (assistant): the chat template writes it differently when the conversation goes on, so "
        "that what was said in each turn cannot be told; learn the last answer only (completion), or give a template "
        "with {% generation %} in model.chat_template"
    )


def _in_tokens(span: Span, encoding: Any, length: int) -> Span | None:
    """Return a span of characters in tokens, as transformers does for its assistant mask."""
    start = encoding.char_to_token(span[0]) if span[1] else None
    if start is None:
        return None
    end = encoding.char_to_token(span[1] - 1)
    return start, end + 1 if end else length


def _default(source: Source) -> str:
    return source if isinstance(source, str) else source.get("default", "")
