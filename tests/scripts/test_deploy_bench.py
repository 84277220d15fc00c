"""The simulation of updates of many hosts."""

from __future__ import annotations

from scripts.benchmarks import _deploy_simulated as simulated


def test_servers_beside_the_old_ones_change_over_at_once_and_others_one_by_one() -> None:
    beside, fixed, failing = simulated.measure(30)
    assert [row[1] for row in (beside, fixed, failing)] == ["blue_green", "fixed", "fixed, the last one fails"]
    told = [int(row[3]) for row in (beside, fixed, failing)]
    assert told[0] == 2, "the file before, and the one after"
    assert told[1] == 32 and told[2] > 2 * 29, "one more for each server, and as many for the way back"
    assert [row[5] for row in (beside, fixed, failing)] == ["3 min", "30 min", "60 min"]
