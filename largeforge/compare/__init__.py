"""Compare two runs, registered models, recipes or locks: what differs, what it led to, and which explains which."""
