"""How many replicas of an expert run, decided from what is observed.

    aims = targets(scaling, slo, max_num_seqs=64)
    state = start(now, running=2)
    state, decision = decide(scaling, aims, state, Observation(ready=2, in_flight=97, most=4), now)
    decision.wanted, decision.reasons
    State.from_json(state.as_json())

Pure: nothing is read, started or awaited here, and equal input gives equal output.

targets.py       what replicas are meant for
observations.py  what was seen at one look
pace.py          how much is asked, where some of it waits
needs.py         how many replicas each number asks for
forecast.py      what weeks before have needed at the same hour
decisions.py     what follows, with windows that keep it steady
state.py         what has been decided, and how it is kept
reading.py       numbers of what was kept
"""

from __future__ import annotations

from largeforge.autoscale.decisions import decide, start
from largeforge.autoscale.observations import Observation
from largeforge.autoscale.state import Decision, State
from largeforge.autoscale.targets import Target, targets

__all__ = ["Decision", "Observation", "State", "Target", "decide", "start", "targets"]
