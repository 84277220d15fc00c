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


class OfTrl(ValueError):
    pass


def test_what_trl_says_against_a_field_is_told_by_its_key() -> None:
    method = dpo.Config(extra={"ld_alpha": 0.5, "tf32": True})
    with pytest.raises(RecipeError) as caught, extra.blamed(method, lambda: False):
        raise OfTrl("--tf32 requires Ampere\n  or newer")
    assert str(caught.value).splitlines()[1:] == [
        "  - method.extra.tf32 = True: trl says: --tf32 requires Ampere or newer"
    ]


@pytest.mark.parametrize(
    ("text", "begun"), [("the loss of ld_alphabet is wrong", False), ("something else", False), ("ld_alpha", True)]
)
def test_what_has_nothing_to_do_with_a_field_goes_on_as_it_is(text: str, begun: bool) -> None:
    with pytest.raises(OfTrl, match=text), extra.blamed(dpo.Config(extra={"ld_alpha": 0.5}), lambda: begun):
        raise OfTrl(text)
