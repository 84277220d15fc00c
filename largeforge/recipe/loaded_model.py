"""What a method, a reward or an evaluator is given for a further model that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class LoadedModel(Protocol):
    """A further model that was loaded for a method, a reward or an evaluator."""

    @property
    def model(self) -> Any:
        """Return the transformers model, in evaluation mode."""

    @property
    def tokenizer(self) -> Any:
        """Return its own tokenizer."""

    def render(self, messages: Sequence[dict[str, Any]], *, generation_prompt: bool) -> list[int]:
        """Return the token ids of a conversation under the model's own chat template."""

    def has_tokens_of(self, tokenizer: Any) -> bool:
        """Tell whether another tokenizer means the same by each token id."""
