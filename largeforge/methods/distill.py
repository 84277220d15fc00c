"""Distillation: a student learns the probabilities that a teacher gives to each token, with trl's trainers.

    gkd        generalized knowledge distillation (Agarwal et al., arXiv:2306.13649): on the student's own answers
               in a share of the steps, on the given ones otherwise
    on_policy  always on the student's own answers, with a loss that never holds all logits (`DistillationTrainer`)
    logit      always on the given answers (Hinton et al., arXiv:1503.02531)

Student and teacher must have the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from largeforge.errors import Problem, StageError
from largeforge.estimate import footprints
from largeforge.recipe.sections.models import Teacher
from largeforge.recipe.training import Training, TrainingMethod

if TYPE_CHECKING:
    from largeforge.recipe.base import Extension
    from largeforge.recipe.loaded_model import LoadedModel

DATA_KIND = "sft"
TRL_CONFIG = {
    "gkd": "trl.experimental.gkd.gkd_config:GKDConfig",
    "on_policy": "trl.trainer.distillation_config:DistillationConfig",
    "logit": "trl.experimental.gkd.gkd_config:GKDConfig",
}

_LMBDA = 0.5


class Config(TrainingMethod):
    """Settings of distillation."""

    name: Literal["distill"] = "distill"
    algorithm: Literal["gkd", "on_policy", "logit"] = "gkd"
    """On whose answers is learned: `gkd` mixes, `on_policy` takes the student's own, `logit` those of the data."""
    teacher: Teacher = ""
    """Model reference of the teacher, for example `job:teacher`, `registry:teacher@champion` or `hub:org/name`."""
    teacher_precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of the teacher's weights; `auto` is that of the student."""
    beta: float = Field(default=0.5, ge=0, le=1)
    """Divergence: 0 is forward KL, 1 reverse KL, between them the generalized Jensen-Shannon divergence."""
    lmbda: float = Field(default=_LMBDA, ge=0, le=1)
    """Share of the steps that learn from the student's own answers (`gkd`)."""
    seq_kd: bool = False
    """Whether the other steps learn from answers that the teacher generates instead of those of the data (`gkd`)."""
    max_new_tokens: int = Field(default=128, gt=0)
    """Longest generated answer in tokens (`gkd`, `on_policy`)."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of generated answers, 1 in the paper; with `on_policy` that of the compared probabilities too."""

    @property
    def generates(self) -> bool:
        """Whether answers are generated while it trains."""
        return self.algorithm == "on_policy" or (self.algorithm == "gkd" and (self.lmbda > 0 or self.seq_kd))


def footprint(config: Config) -> footprints.MethodFootprint:
    """Return what a step needs beyond a plain forward and backward pass, the teacher apart."""
    return replace(
        footprints.DISTILL,
        logits="fused" if config.algorithm == "on_policy" else "full",
        full_copies=footprints.GKD_COPIES[{0.0: "forward", 1.0: "reverse"}.get(config.beta, "mixed")],
        generations=int(config.generates),
        completion_length=config.max_new_tokens if config.generates else 0,
        generated_share=config.lmbda if config.algorithm == "gkd" and not config.seq_kd else 1.0,
    )


def check(config: Config, adapter: Extension) -> Iterator[Problem]:
    """Yield what is wrong between the settings, with keys below the method."""
    if config.algorithm != "gkd" and config.lmbda != _LMBDA:
        share = {"on_policy": 1, "logit": 0}[config.algorithm]
        yield Problem("lmbda", f"only algorithm gkd mixes answers; with {config.algorithm} it is always {share}.")
    if config.seq_kd and (config.algorithm != "gkd" or config.lmbda == 1):
        yield Problem("seq_kd", "needs algorithm gkd with lmbda below 1: only then is there anything to replace.")
    if "max_completion_length" in config.extra:
        yield Problem("extra.max_completion_length", "set method.max_new_tokens instead.")


def run(config: Config, training: Training) -> dict[str, float]:
    """Train and return the final metrics."""
    teacher = training.other_model(config.teacher, precision=config.teacher_precision)
    same_outputs(teacher, training.model, training.tokenizer, name=config.teacher)
    trainer = _on_policy if config.algorithm == "on_policy" else _gkd
    return training.fit(trainer(config, training, teacher.model))


def same_outputs(teacher: LoadedModel, student: Any, tokenizer: Any, *, name: str) -> None:
    """Make sure that both models mean the same by each place of their output.

    Makers round the number of outputs up differently within one family; rows of the teacher that no token has
    are cut off. Raises StageError when the tokens differ, or when the teacher has fewer outputs.
    """
    own, other = (model.config.get_text_config().vocab_size for model in (student, teacher.model))
    known = len(tokenizer), len(teacher.tokenizer)
    sizes = f"the student has {own} outputs for {known[0]} tokens, the teacher {other} for {known[1]}"
    if not teacher.has_tokens_of(tokenizer):
        raise StageError(f"method.teacher: {name} does not have the student's tokens: {sizes}; distil within a family")
    if other < own:
        raise StageError(f"method.teacher: {name} has too few outputs: {sizes}")
    if other > own:
        teacher.model.resize_token_embeddings(own)


def _gkd(config: Config, training: Training, teacher: Any) -> Any:
    from trl.experimental.gkd import GKDConfig, GKDTrainer
    from trl.experimental.utils import DataCollatorForChatML

    collate = DataCollatorForChatML(tokenizer=training.tokenizer, max_length=config.max_length)
    arguments = GKDConfig(
        **training.arguments(config),
        max_length=config.max_length,
        beta=config.beta,
        lmbda=0.0 if config.algorithm == "logit" else config.lmbda,
        seq_kd=config.seq_kd,
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens,
    )
    return GKDTrainer(
        model=training.model,
        teacher_model=teacher,
        args=arguments,
        data_collator=lambda rows: collate([_tokenized(row) for row in rows]),
        train_dataset=training.tokenized("train"),
        eval_dataset=training.tokenized("heldout"),
        processing_class=training.tokenizer,
        peft_config=training.peft_config,
    )


def _tokenized(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as trl's collator takes one that is tokenized: it looks for the prompt's text all the same."""
    return {"prompt": "", "input_ids": row["input_ids"], "completion_mask": [int(one != -100) for one in row["labels"]]}


def _on_policy(config: Config, training: Training, teacher: Any) -> Any:
    from trl import DistillationConfig, DistillationTrainer

    arguments = DistillationConfig(
        **{**training.arguments(config), "include_num_input_tokens_seen": "no"},  # it counts those it generates itself
        beta=config.beta,
        temperature=config.temperature,
        max_completion_length=config.max_new_tokens,
    )
    return DistillationTrainer(
        model=training.model,
        teacher_model=teacher,
        args=arguments,
        train_dataset=_prompts(training.examples("train")),
        eval_dataset=_prompts(training.examples("heldout")),
        processing_class=training.tokenizer,
        peft_config=training.peft_config,
    )


def _prompts(rows: Any) -> Any:
    """Return rows with their prompt alone, made as they are read; None for none."""
    if rows is None:
        return None
    if "tools" in rows.column_names:
        raise StageError("algorithm on_policy cannot give a row's tools to the model; use gkd, or leave them out")
    return rows.with_transform(lambda batch: {"prompt": [messages[:-1] for messages in batch["messages"]]})
