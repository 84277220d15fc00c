"""Restart what is deployed on the hosts of an inventory, or start what was stopped: one server after the other.

  python -m largeforge restart lab support             all services of a deployment
  python -m largeforge restart lab support general-2   one of them, as `status` shows them

Each server is drained at the gateways first, and the next only follows when the last is healthy."""

from __future__ import annotations

import argparse

from largeforge.commands.stop import act, add_arguments

__all__ = ["add_arguments", "run"]


def run(arguments: argparse.Namespace) -> int:
    """Do it, and say what was done."""
    return act(arguments, "restart")
