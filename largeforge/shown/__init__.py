"""What `largeforge data show` shows: a job's rows as its training would see them, before it has run."""
