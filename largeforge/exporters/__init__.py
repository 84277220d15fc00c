"""Where a topology can be taken: one module for each form of files."""
