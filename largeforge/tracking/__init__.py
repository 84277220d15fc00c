"""Sends runs to trackers (MLflow, Weights & Biases) without the run ever waiting for one.

    following.py    starts a process for each tracker beside a run, and gathers what went wrong
    __main__.py     that process: reads the run's events.jsonl as it grows
    upload.py       events from where the last sitting ended → records → the tracker
    records.py      events → records
    about.py        run directory → what trackers are told of the run

The run writes its events to a file, as always, and a tracker's process reads that file: a slow or
dead server holds up nobody. `largeforge track RUN` reads the same file later.
"""
