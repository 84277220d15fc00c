"""The engine for a tokenizer that transformers loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.tokens.engine import FastEngine, Spec
from largeforge.tokens.slow import SlowEngine
from largeforge.tokens.template import training_template

if TYPE_CHECKING:
    from largeforge.tokens.engine import Engine

_PROBES = (
    [{"role": "user", "content": "Where is  order 4711?\n"}, {"role": "assistant", "content": " On its way – soon."}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
)  # fmt: skip


def engine(tokenizer: Any) -> Engine:
    """Return the fast engine where it does what the tokenizer does, else one that asks the tokenizer."""
    template = tokenizer.chat_template
    known = training_template(template) if template else ""
    if not _is_plain(tokenizer):
        return SlowEngine(tokenizer, known)
    spec = Spec(
        tokenizer=tokenizer.backend_tokenizer.to_str(),
        template=template or "",
        training_template=known,
        variables=dict(tokenizer.special_tokens_map),
        splits_special_tokens=bool(tokenizer.split_special_tokens),
    )
    fast, slow = FastEngine(spec), SlowEngine(tokenizer, known)
    return fast if _agree(fast, slow) else slow


def _is_plain(tokenizer: Any) -> bool:
    """Tell whether nothing of the way from a conversation to tokens is the tokenizer's own."""
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return False
    own = type(tokenizer)
    return (
        own.apply_chat_template is PreTrainedTokenizerBase.apply_chat_template
        and own.__call__ is PreTrainedTokenizerBase.__call__
        and own._encode_plus is PreTrainedTokenizerFast._encode_plus
    )


def _agree(fast: FastEngine, slow: SlowEngine) -> bool:
    """Tell whether both make the same tokens of a few conversations, as far as the template renders them."""
    from largeforge.data.faults import RowError

    if fast.encode([fast.plain("Hello,  world 42")]) != slow.encode([slow.plain("Hello,  world 42")]):
        return False
    for messages in _PROBES:
        try:
            expected = slow.encode([slow.whole(messages, None)])
        except RowError:
            continue
        if fast.encode([fast.whole(messages, None)]) != expected:
            return False
    return True
