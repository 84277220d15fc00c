"""A model under evaluation in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.errors import StageError
from largeforge.estimate.inference import LOGITS_BYTES, PIECE_TOKENS
from largeforge.stages.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from largeforge.recipe.loaded_model import LoadedModel
    from largeforge.stages.context import Context
    from largeforge.training.other_models import OtherModels


class LoadedSubject(Subject):
    """A model in this process.

    `has_reward_head`: whether it can score; a model without one finds every answer equally good.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        rows: list[dict[str, Any]],
        context: Context,
        *,
        others: OtherModels | None = None,
        has_reward_head: bool = False,
    ):
        super().__init__(tokenizer, rows, context, others=others)
        self.model = model.eval()
        self.has_reward_head = has_reward_head

    def _answers(self, places: Sequence[int], max_new_tokens: int, batch_size: int) -> list[str]:
        """Generate answers in this process; prompts of like length share a batch."""
        prompts = {place: self.prompt(place) for place in places}
        ordered = sorted(prompts, key=lambda place: len(prompts[place]))
        found: dict[int, str] = {}
        for start in range(0, len(ordered), batch_size):
            batch = ordered[start : start + batch_size]
            answers = self._generate([prompts[place] for place in batch], max_new_tokens)
            found.update(zip(batch, answers, strict=True))
            self.progress(len(found), len(prompts))
        return [found[place] for place in places]

    def log_probabilities(self, batch: Sequence[tuple[list[int], int]]) -> list[float]:
        """Return, for each `(token ids, length of the prompt)`, the summed log-probability of the rest, in nats.

        Rows are passed on in as many parts as the memory of their logits demands.
        """
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        tokens = int(LOGITS_BYTES // (vocabulary * self.model.dtype.itemsize))
        found: list[float] = []
        for part in _parts(batch, max_tokens=tokens):
            found += self._log_probabilities(part)
        return found

    def rewards(self, batch: Sequence[list[int]]) -> list[float]:
        """Return the score of each rendered conversation; all 0 for a model that was not trained to score."""
        import torch

        if not self.has_reward_head:
            return [0.0] * len(batch)
        tokens, mask = self._padded(batch, left=False)
        with torch.inference_mode():
            scores = self.model(input_ids=tokens, attention_mask=mask).logits
        return [float(score) for score in scores.float().squeeze(-1)]

    def compare(self, other: LoadedModel, batch: Sequence[tuple[list[int], int]]) -> list[tuple[float, int, int]]:
        """Return, for each `(token ids, length of the prompt)`, of the answer after the prompt: the summed KL
        divergence from the other model's next token to this one's, in nats; at how many tokens both would choose the
        same; how many tokens there are. What a template writes after the end of the answer does not count.

        Raises StageError when the models do not have the same tokens.
        """
        if not other.has_tokens_of(self.tokenizer):
            raise StageError("the models do not have the same tokens, so that their next tokens cannot be compared")
        vocabulary = max(model.get_input_embeddings().weight.shape[0] for model in (self.model, other.model))
        tokens = int(LOGITS_BYTES // (vocabulary * (self.model.dtype.itemsize + other.model.dtype.itemsize)))
        ended = [(self._ended(ids), skip) for ids, skip in batch]
        return [found for part in _parts(ended, max_tokens=tokens) for found in self._compare(other, part)]

    def _ended(self, ids: list[int]) -> list[int]:
        """Return token ids up to the last one that ends an answer."""
        end = self.tokenizer.eos_token_id
        return ids[: len(ids) - ids[::-1].index(end)] if end in ids else ids

    def _generate(self, encoded: Sequence[list[int]], max_new_tokens: int) -> list[str]:
        import torch

        tokens, mask = self._padded(encoded, left=True)
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=tokens, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
            )  # fmt: skip
        answers: list[str] = self.tokenizer.batch_decode(output[:, tokens.shape[1] :], skip_special_tokens=True)
        return answers

    def _log_probabilities(self, batch: Sequence[tuple[list[int], int]]) -> list[float]:
        import torch

        tokens, mask = self._padded([ids for ids, _ in batch], left=False)
        with torch.inference_mode():
            logits = self.model(input_ids=tokens, attention_mask=mask).logits
            return [
                _summed(logits[row, skip - 1 : len(ids) - 1], tokens[row, skip : len(ids)])
                for row, (ids, skip) in enumerate(batch)
            ]

    def _compare(self, other: LoadedModel, batch: Sequence[tuple[list[int], int]]) -> list[tuple[float, int, int]]:
        import torch

        tokens, mask = self._padded([ids for ids, _ in batch], left=False)
        with torch.inference_mode():
            own = self.model(input_ids=tokens, attention_mask=mask).logits
            wanted = other.model(input_ids=tokens, attention_mask=mask).logits
            return [
                (*_compared(own[row, skip - 1 : len(ids) - 1], wanted[row, skip - 1 : len(ids) - 1]), len(ids) - skip)
                for row, (ids, skip) in enumerate(batch)
            ]

    def _padded(self, encoded: Sequence[list[int]], *, left: bool) -> tuple[Any, Any]:
        import torch

        width = max(len(ids) for ids in encoded)
        tokens = torch.full((len(encoded), width), int(self.tokenizer.pad_token_id))
        mask = torch.zeros((len(encoded), width), dtype=torch.long)
        for index, ids in enumerate(encoded):
            place = slice(width - len(ids), width) if left else slice(0, len(ids))
            tokens[index, place] = torch.tensor(ids, dtype=torch.long)
            mask[index, place] = 1
        return tokens.to(self.model.device), mask.to(self.model.device)


def _parts(batch: Sequence[tuple[list[int], int]], *, max_tokens: int) -> Iterator[Sequence[tuple[list[int], int]]]:
    """Yield the rows in order, as many at a time as have that many tokens with their padding, at least one."""
    start, width = 0, 0
    for place, (ids, _) in enumerate(batch):
        width = max(width, len(ids))
        if place > start and width * (place - start + 1) > max_tokens:
            yield batch[start:place]
            start, width = place, len(ids)
    yield batch[start:]


def _summed(logits: Any, tokens: Any) -> float:
    """Return the summed log-probability of tokens, in fp32 a piece at a time."""
    total = 0.0
    for values, chosen in zip(logits.split(PIECE_TOKENS), tokens.split(PIECE_TOKENS), strict=True):
        piece = values.float()
        total += float((piece.gather(-1, chosen.unsqueeze(-1)).squeeze(-1) - piece.logsumexp(-1)).sum())
    return total


def _compared(own: Any, wanted: Any) -> tuple[float, int]:
    """Return the summed KL divergence of two models' logits and how often they agree, in fp32 a piece at a time.

    Outputs beyond those that both have belong to no token.
    """
    size = min(own.shape[-1], wanted.shape[-1])
    divergence, same = 0.0, 0
    for one, other in zip(own[:, :size].split(PIECE_TOKENS), wanted[:, :size].split(PIECE_TOKENS), strict=True):
        student, teacher = one.float().log_softmax(-1), other.float().log_softmax(-1)
        divergence += float((teacher.exp() * (teacher - student)).sum())
        same += int((one.argmax(-1) == other.argmax(-1)).sum())
    return divergence, same
