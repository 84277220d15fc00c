"""What happens inside the process that trains: arguments, data, checkpoints, limits, events."""
