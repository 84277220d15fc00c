"""Recipes: composed by Hydra, validated by Pydantic, never able to name code."""
