"""Put a running gateway under load with `vllm bench serve`, and say what it bore.

tool.py      the recipe's section as the tool's command line and environment
driver.py    what is run by the interpreter that has vLLM: the tool, with what it lacks
prompts.py   rows of a file as requests
result.py    what the tool has written, as one measured step
report.py    all steps together, and what gates make of them
running.py   the tool as a child process, from its start to its end
"""

from largeforge.loadtest.report import Report, table, verdicts
from largeforge.loadtest.running import run

__all__ = ["Report", "run", "table", "verdicts"]
