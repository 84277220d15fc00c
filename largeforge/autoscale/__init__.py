"""How many replicas of an expert run, decided from what is observed."""
