"""The columns and rows of a `table` event, made regular for those who draw them."""

from __future__ import annotations

from typing import Any

from largeforge.console.text import clean


def table_parts(event: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Return a table's columns and rows, each row as long as the columns."""
    columns, rows = event.get("columns"), event.get("rows")
    names = [clean(column) for column in columns] if isinstance(columns, list) else []
    lists = [row for row in rows if isinstance(row, list)] if isinstance(rows, list) else []
    return names, [[*row, *[""] * len(names)][: len(names)] for row in lists]


def numeric_columns(rows: list[list[Any]], num_columns: int) -> list[bool]:
    """Say of each column whether it holds only numbers (and blanks)."""
    columns: list[list[Any]] = [
        [row[index] for row in rows if row[index] not in ("", None)] for index in range(num_columns)
    ]
    return [bool(column) and all(isinstance(cell, int | float) for cell in column) for column in columns]
