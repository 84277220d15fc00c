"""Builds `report.html`: one file that shows a run to people, without a server or a network."""

from __future__ import annotations

from largeforge.report.page import write

__all__ = ["write"]
