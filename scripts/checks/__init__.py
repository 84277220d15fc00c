"""Checks of the source that need no test data: style, types, import rules, generated docs."""
