"""The sections of a recipe, by what they are about; `recipe.schema` joins them."""
