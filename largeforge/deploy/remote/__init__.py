"""Programs that run on hosts, each a file of its own: only the standard library, Python 3.9 or newer, and no import of
LargeForge, since they are sent there before anything is installed."""
