"""A recipe's topology as files for others to run: pure functions, and one place (`files.py`) that writes."""
