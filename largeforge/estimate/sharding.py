"""How training is spread over GPUs, as far as it decides what each of them holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Strategy = Literal["none", "ddp", "fsdp2", "zero1", "zero2", "zero3"]


@dataclass(frozen=True)
class Sharding:
    """A way to spread weights, gradients and optimizer states over GPUs."""

    strategy: Strategy = "none"
    gpus: int = 1
    """GPUs in all, over all hosts."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """What lives in the host's memory: optimizer states, or weights as well."""

    @property
    def weights_share(self) -> float:
        """Share of the weights that one GPU keeps between two layers (Rajbhandari et al., arXiv:1910.02054)."""
        return 1 / self.gpus if self.strategy in ("fsdp2", "zero3") else 1.0

    @property
    def gradients_share(self) -> float:
        """Share of the gradients that one GPU keeps."""
        return 1 / self.gpus if self.strategy in ("fsdp2", "zero2", "zero3") else 1.0

    @property
    def optimizer_share(self) -> float:
        """Share of the optimizer states that one GPU keeps."""
        return 1 / self.gpus if self.strategy in ("fsdp2", "zero1", "zero2", "zero3") else 1.0

    @property
    def is_zero(self) -> bool:
        """Whether DeepSpeed does it; its optimizer works on fp32 copies of the weights."""
        return self.strategy.startswith("zero")


SINGLE = Sharding()
"""One process on one device."""

ZERO_BUCKET = 5e8
"""Values of DeepSpeed's `reduce_bucket_size` and `allgather_bucket_size` (its defaults; docs, "ZeRO")."""
ZERO3_LIVE = 1e9
"""Values of `stage3_max_live_parameters`, the most that ZeRO-3 keeps gathered (its default)."""
