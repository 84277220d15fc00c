"""The process that trains checks the further fields by trl's own dataclass, whatever the machine of the plan knew."""

from __future__ import annotations

from typing import Any

import pytest

from largeforge.errors import RecipeError
from largeforge.methods import dpo
from largeforge.recipe import method_extra
from largeforge.training import extra


@pytest.fixture(autouse=True)
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what is read from the source, so that only the dataclass is left."""
    monkeypatch.setattr(method_extra, "check", lambda method, fields: [])


def test_sound_fields_pass() -> None:
    fields = {"ld_alpha": 0.5, "lr_scheduler_kwargs": {"num_cycles": 2}, "optim_target_modules": ["q"], "tf32": None}
    extra.verify(dpo.TRL_CONFIG, dpo.Config(extra=fields))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ld_alfa", 0.5, "method.extra.ld_alfa: trl's DPOConfig has no such field. Did you mean 'ld_alpha'?"),
        ("ld_alpha", "much", "method.extra.ld_alpha = 'much': Input should be a valid number"),
        ("loss_type", 7, "method.extra.loss_type = 7: "),
        ("include_for_metrics", "x", "as in trl's DPOConfig"),
        ("train_sampling_strategy", "some", "must be one of random, sequential, group_by_length"),
    ],
)
def test_a_wrong_field_is_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        extra.verify(dpo.TRL_CONFIG, dpo.Config(extra={name: value}))
    assert message in str(caught.value)
