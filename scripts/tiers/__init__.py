"""The tests in tiers, the quick ones first."""
