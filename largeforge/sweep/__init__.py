"""Sweeps: `python -m largeforge -m +recipe=NAME key=1,2 …` runs many trials of a recipe and ranks them.

    request.py      words of the command line → what is swept, and how
    prepare.py      every trial composed, validated and planned before the first one starts
    scheduler.py    trials as child processes, side by side as the hardware allows
    folder.py       runs/sweeps/<recipe>/<digest>/: what is known of each trial, atomically
    leaderboard.py  trials → ranks, a table, a CSV file; page.py: a page with plots
    tracking.py     the sweep in MLflow, written by a process of its own

A trial is an ordinary run, with its own directory, report and reused stages.
"""
