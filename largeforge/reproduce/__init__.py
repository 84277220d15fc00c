"""Run something again from its lock rather than from today's recipe, and say what could not be matched."""
