"""Files that LargeForge writes for a user to go on with: recipes, and settings of an editor."""
