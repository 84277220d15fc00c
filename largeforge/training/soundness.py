"""Whether loss and weights are numbers: looked at on the device, told when reports and checkpoints come."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from largeforge.training import distributed, failures

if TYPE_CHECKING:
    from largeforge.recipe.training import TrainingMethod
    from largeforge.training.checkpoints import Store


class Soundness:
    """Watches one training, in every process; raises the error of `failures.not_finite` where it is broken."""

    def __init__(self, trainer: Any, *, store: Store, method: TrainingMethod):
        self.trainer, self.store, self.method = trainer, store, method
        self.first_bad: Any = None
        """The first step after which the summed loss was no number, on the device."""

    def begin(self) -> None:
        """Start to watch; the trainer knows its device now."""
        import torch

        self.first_bad = torch.full((), math.inf, device=self.trainer.args.device)

    def after_step(self, step: int) -> None:
        """Note whether the loss is a number; a GPU is not waited for, which happens when the loss is reported."""
        import torch

        bad = torch.where(torch.isfinite(self.trainer._tr_loss), math.inf, float(step))
        self.first_bad = torch.minimum(self.first_bad, bad)

    def check_report(self, loss: float, grad_norm: float, learning_rate: float) -> None:
        """Raise StageError when a report shows that the weights are broken."""
        if not math.isfinite(loss):
            self._refuse(f"the loss became {loss}", learning_rate)
        if not math.isfinite(grad_norm) and not self._holds():
            self._refuse(f"the gradient became {grad_norm} and the weights with it", learning_rate)

    def check_weights(self) -> None:
        """Raise StageError when loss or weights are broken in any process."""
        if not self._holds():
            self._refuse("the loss or the weights became nan", self.trainer._get_learning_rate())

    def _holds(self) -> bool:
        import torch

        weights = (weight for weight in self.trainer.model.parameters() if weight.requires_grad)
        parts = [weight.to_local() if hasattr(weight, "to_local") else weight for weight in weights]
        norms = torch._foreach_norm([part.detach() for part in parts if part.numel()], math.inf)
        numbers = torch.stack([norm.float() for norm in (*norms, self.trainer._tr_loss)])
        return distributed.highest(int(not bool(torch.isfinite(numbers).all()))) == 0

    def _refuse(self, what: str, learning_rate: float) -> None:
        first = float(self.trainer.accelerator.gather(self.first_bad).min())
        step = int(first) if math.isfinite(first) else self.trainer.state.global_step
        kept = self.store.steps()
        raise failures.not_finite(
            what, step=step, learning_rate=learning_rate, max_grad_norm=self.method.max_grad_norm,
            kept=self.store.path(kept[0]) if kept else None,
        )  # fmt: skip
