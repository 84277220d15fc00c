"""What a reward model says of an answer: one that method `reward` trained, or another with a single output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from largeforge.recipe.rewards import Batch, RewardFunction
from largeforge.recipe.sections.models import FurtherRewardModel

if TYPE_CHECKING:
    from largeforge.errors import Problem
    from largeforge.recipe.loaded_model import LoadedModel

NEEDS_ANSWER = False


class Config(RewardFunction):
    """Settings of a reward model; its numbers have no fixed range, so that `weight` matters beside other rewards."""

    name: Literal["reward_model"] = "reward_model"
    model: FurtherRewardModel = ""
    """Model reference of the reward model, for example `job:judge` or `registry:judge@champion`."""
    batch_size: int = Field(default=16, gt=0)
    """Answers judged at once."""


def check(config: Config) -> Iterator[Problem]:
    """Yield what is wrong between the settings, with keys below the reward: nothing can be."""
    yield from ()


def score(config: Config, batch: Batch) -> list[float]:
    """Return the reward model's output for each conversation, under its own tokenizer and chat template."""
    judge = batch.other_model(config.model)
    conversations = [
        [*prompt, {"role": "assistant", "content": completion}]
        for prompt, completion in zip(batch.prompts, batch.completions, strict=True)
    ]
    encoded = [judge.render(messages, generation_prompt=False) for messages in conversations]
    parts = (encoded[start : start + config.batch_size] for start in range(0, len(encoded), config.batch_size))
    return [value for part in parts for value in _outputs(judge, part)]


def _outputs(judge: LoadedModel, encoded: Sequence[list[int]]) -> list[float]:
    import torch

    width, padding = max(len(ids) for ids in encoded), judge.tokenizer.pad_token_id
    tokens = torch.tensor([ids + [padding] * (width - len(ids)) for ids in encoded])
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in encoded])
    place: Any = judge.model.device
    with torch.inference_mode():
        logits = judge.model(input_ids=tokens.to(place), attention_mask=mask.to(place)).logits
    return [float(value) for value in logits[:, 0].float()]
