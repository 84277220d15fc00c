"""What a training method and an adapter add to the memory of a plain forward and backward pass.

Each method and adapter module returns its own footprint; the constants here are those of trl's trainers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from largeforge.estimate.shape import Shape


@dataclass(frozen=True)
class MethodFootprint:
    """What happens in one step of a training method, as far as it costs memory."""

    name: str
    sequences_per_row: int = 1
    """Sequences that a row becomes in the trained forward pass (chosen and rejected: 2)."""
    reference: bool = False
    """Compares with the untrained model: the model with its adapter switched off, or a copy when it has none."""
    logits: Literal["fused", "full", "none"] = "fused"
    """`fused`: trl's fused head computes them a tile at a time; `full`: all logits of a batch at once and their
    softmax in fp32, as transformers' own loss; `none`: a head with one output (reward model)."""
    full_copies: int = 3
    """With `full`: copies of all logits in fp32 that the loss has alive. 3: a plain loss has the logits themselves,
    their log-softmax, and its gradient."""
    scored: float = 1.0
    """Share of the tokens that the loss is computed on; 1 where it is not known."""
    teacher: Shape | None = None
    """Model that is learnt from, loaded beside the trained one."""
    teacher_weights: Literal["fp32", "bf16"] = "bf16"
    others: tuple[Shape, ...] = ()
    """Further models that are loaded and asked between the steps, such as reward models."""
    generations: int = 0
    """Answers that are generated for each prompt before the forward pass; 0 for none."""
    completion_length: int = 0
    """Longest generated answer in tokens."""
    generated_share: float = 1.0
    """Share of the steps that generate."""


PRETRAIN = MethodFootprint("pretrain")
SFT = MethodFootprint("sft")
"""trl 1.16 `SFTTrainer`: the fused head of `trl/kernels/chunked_logprob.py`."""
DPO = MethodFootprint("dpo", sequences_per_row=2, reference=True)
"""trl 1.16 `DPOTrainer`: both answers in one forward pass; the reference comes after it, without gradients."""
ORPO = MethodFootprint("orpo", sequences_per_row=2, logits="full", full_copies=4)
"""trl 1.16 `experimental.orpo`: both answers in one forward pass, two losses of full logits, whose gradients add up."""
KTO = MethodFootprint("kto", reference=True)
"""trl 1.16 `KTOTrainer`; the KL pass has no gradients and ends before the forward pass begins."""
REWARD = MethodFootprint("reward", sequences_per_row=2, logits="none")
"""trl 1.16 `RewardTrainer`: both answers in one forward pass, one number each."""
DISTILL = MethodFootprint("distillation")
"""trl 1.16 `DistillationTrainer`; give the teacher with `with_teacher`."""
GKD_COPIES = {"forward": 8, "reverse": 9, "mixed": 16}
"""Copies of all logits that trl 1.16 `GKDTrainer.generalized_jsd_loss` has alive, by its divergence; measured as the
peak of a process on a CPU with 1024 × 32768 logits."""
GRPO = MethodFootprint("grpo", generations=8, completion_length=256)
"""trl 1.16 `GRPOTrainer` with transformers' generate; `beta` above 0 adds a reference (trl's default is 0)."""


def with_teacher(method: MethodFootprint, teacher: Shape, weights: Literal["fp32", "bf16"] = "bf16") -> MethodFootprint:
    """Return the footprint of a method that learns from a teacher of this shape."""
    return replace(method, teacher=teacher, teacher_weights=weights)


@dataclass(frozen=True)
class AdapterFootprint:
    """What is trained instead of the weights, and how the frozen weights are kept."""

    rank: int = 0
    """Rank of the LoRA additions; 0 when all weights are trained."""
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the linear layers with an addition, as transformers has them; the head never is one of all-linear."""
    base_weights: Literal["as_precision", "nf4"] = "as_precision"
    """`nf4`: 4-bit NormalFloat with double quantization, as QLoRA; embeddings, head and norms stay as they are."""
    dropout: bool = False
    """Whether the additions have a dropout above 0: it keeps a mask and another copy of the input."""
    dora: bool = False
    """Weight-decomposed: a magnitude per output, and the norm of the merged weight at each forward pass."""

    @property
    def trains_all(self) -> bool:
        """Whether there is no adapter."""
        return self.rank == 0


FULL = AdapterFootprint()
"""All weights are trained."""
