"""Training on other machines: over ssh on named hosts, or as a job of a Slurm cluster."""
