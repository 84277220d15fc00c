"""Set-up of LargeForge's own virtual environment; standard library only, since nothing is installed yet."""
