"""Group relative policy optimisation (Shao et al., arXiv:2402.03300) on rewards by name, with trl's GRPOTrainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from largeforge.errors import Problem, StageError
from largeforge.estimate import footprints
from largeforge.recipe import rewards
from largeforge.recipe.sections.rewards import Rewards
from largeforge.recipe.training import Training, TrainingMethod

if TYPE_CHECKING:
    from largeforge.recipe.base import Extension
    from largeforge.recipe.rewards import RewardFunction

DATA_KIND = "prompt"
TRL_CONFIG = "trl.trainer.grpo_config:GRPOConfig"

_NOT_EXTRA = {
    "reward_weights": "method.rewards.<name>.weight",
    "generation_batch_size": "method.steps_per_generation",
    "num_generations_eval": "method.num_generations",
}
"""Fields of trl's config that follow from others here."""


class Config(TrainingMethod):
    """Settings of group relative policy optimisation."""

    name: Literal["grpo"] = "grpo"
    learning_rate: float = Field(default=1e-6, gt=0)
    """Peak learning rate."""
    per_device_train_batch_size: int = Field(default=8, gt=0)
    """Answers per device and forward pass; prompts are fewer, since each has `num_generations` answers."""
    max_length: int = Field(default=1024, gt=0)
    """Longest prompt in tokens; a longer one is an error, never cut silently."""
    max_completion_length: int = Field(default=512, gt=0)
    """Longest generated answer in tokens."""
    num_generations: int = Field(default=8, ge=2)
    """Answers to each prompt, whose rewards are compared with each other."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the generated answers."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Share of probability that answers are drawn from."""
    beta: float = Field(default=0.0, ge=0)
    """How strongly the policy is held to the reference model; 0 needs none."""
    steps_per_generation: int = Field(default=0, ge=0)
    """Forward passes whose answers are generated at once; 0 means those of one optimizer step."""
    num_iterations: int = Field(default=1, gt=0)
    """Times that generated answers are learned from."""
    epsilon: float = Field(default=0.2, gt=0)
    """How far a probability may move from that at generation before it is clipped."""
    loss_type: Literal["dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo"] = "dapo"
    """How the losses of tokens are averaged, as trl names it."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Whether rewards are divided by their spread within the answers to a prompt, within the batch, or not at all."""
    mask_truncated_completions: bool = False
    """Whether answers that were cut off at `max_completion_length` do not count."""
    rewards: Rewards = {}
    """Rewards by name, chosen from `conf/reward/`; their weighted sum is what is learned."""

    @property
    def generated_passes(self) -> int:
        """Forward passes whose answers are generated at once."""
        return self.steps_per_generation or self.gradient_accumulation_steps


def footprint(config: Config) -> footprints.MethodFootprint:
    """Return what a step needs beyond a plain forward and backward pass."""
    return replace(
        footprints.GRPO,
        reference=config.beta > 0,
        generations=config.num_generations,
        completion_length=config.max_completion_length,
    )


def check(config: Config, adapter: Extension) -> Iterator[Problem]:
    """Yield what is wrong between the settings, with keys below the method."""
    yield from rewards.check(config.rewards)
    for name, instead in _NOT_EXTRA.items():
        if name in config.extra:
            yield Problem(f"extra.{name}", f"set {instead} instead.")


def refusal(config: Config, *, processes: int) -> str:
    """Return why a training in so many processes cannot start; empty when it can."""
    answers = config.per_device_train_batch_size * processes * config.generated_passes
    if answers % config.num_generations == 0:
        return ""
    return (
        f"method.num_generations: {answers} answers are generated at once (per_device_train_batch_size × processes × "
        f"steps_per_generation), which is no multiple of {config.num_generations}"
    )


def run(config: Config, training: Training) -> dict[str, float]:
    """Train and return the final metrics."""
    from trl import GRPOConfig, GRPOTrainer

    if reason := refusal(config, processes=training.world_size):
        raise StageError(reason)
    given = training.arguments(config)
    arguments = GRPOConfig(
        **{**given, "include_num_input_tokens_seen": "no", "per_device_eval_batch_size": _eval_batch(config, given)},
        max_completion_length=config.max_completion_length,
        num_generations=config.num_generations,
        temperature=config.temperature,
        top_p=config.top_p,
        beta=config.beta,
        steps_per_generation=config.steps_per_generation or None,
        num_iterations=config.num_iterations,
        epsilon=config.epsilon,
        loss_type=config.loss_type,
        scale_rewards=config.scale_rewards,
        mask_truncated_completions=config.mask_truncated_completions,
        reward_weights=[reward.weight for reward in config.rewards.values()],
    )
    trainer = GRPOTrainer(
        model=training.model,
        reward_funcs=[_function(name, reward, training) for name, reward in config.rewards.items()],
        args=arguments,
        train_dataset=_without_tools(training.examples("train")),
        eval_dataset=_without_tools(training.examples("heldout")),
        processing_class=training.tokenizer,
        peft_config=training.peft_config,
    )
    return training.fit(trainer)


def _eval_batch(config: Config, given: dict[str, Any]) -> int:
    """Return a batch for evaluation that holds all answers to its prompts, as trl demands."""
    prompts = int(given["per_device_eval_batch_size"]) // config.num_generations
    return max(1, prompts) * config.num_generations


def _function(name: str, reward: RewardFunction, training: Training) -> Callable[..., list[float]]:
    """Return a reward as trl calls it; its name is that of the metric."""

    def count_tokens(text: str) -> int:
        ids: list[int] = training.tokenizer(text, add_special_tokens=False)["input_ids"]
        return len(ids)

    def function(
        prompts: list[Any], completions: list[Any], answer: list[str], **_: Any
    ) -> list[float]:  # trl's own names, one of them the column of the data
        batch = rewards.Batch(
            prompts,
            [str(turns[-1].get("content") or "") for turns in completions],
            answer,
            count_tokens,
            training.other_model,
        )
        return rewards.scores(name, reward, batch)

    function.__name__ = name
    return function


def _without_tools(rows: Any) -> Any:
    """Return the rows; raises StageError where one offers tools, which trl would not show to the model."""
    if rows is not None and "tools" in rows.column_names:
        raise StageError("grpo cannot give a row's own tools to the model; leave `tools` out of the data")
    return rows
