"""Training on several machines: hosts of an inventory, a job of a Slurm cluster, or the nodes of a Ray cluster."""
