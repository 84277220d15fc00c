"""Look at the machine before a run: is there what the plan needs, and what to type where there is not.

One file a check in `checks/`; the file is the check's name. Its docstring's first line is the help
and `check(context)` yields findings: adding a check is adding a file. Nothing here imports torch,
changes anything on the machine, or shows a secret.
"""
