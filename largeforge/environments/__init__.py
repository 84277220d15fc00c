"""Environments of pinned packages on top of the running one, for tools whose needs exclude each other."""
