"""The checks, one file each: `check(context)` yields findings; `QUICK = True` shows its warnings in `mode=plan` too."""
