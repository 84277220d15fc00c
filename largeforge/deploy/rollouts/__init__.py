"""New models of a deployment that take over from those that serve, step by step, and go back when they are worse."""
