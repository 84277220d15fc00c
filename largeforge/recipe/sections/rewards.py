"""Rewards by name, as methods and evaluators take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.recipe import extensions
from largeforge.recipe.base import Name

if TYPE_CHECKING:
    from typing import TypeAlias

    from largeforge.recipe.rewards import RewardFunction

    Reward: TypeAlias = RewardFunction
    Rewards: TypeAlias = dict[str, RewardFunction]
else:
    Reward = extensions.union("reward")
    Rewards = dict[Name, Reward]
