"""Programs that are installed on hosts and run there: only the standard library, Python 3.9 or newer, and no import of
LargeForge. They lie in one folder, so that they import each other by their bare names."""
