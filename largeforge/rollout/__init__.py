"""How a new model takes over from the one that serves, decided without more false alarms however often one looks.

    state, decision = start(settings, now, before=stable_until_now)
    state, decision = decide(settings, state, Observation(canary=Arm(...), stable=Arm(...)), now)
    state, decision = command(settings, state, "pause", now)
    decision.action, decision.share, decision.shadow, decision.reasons
    State.from_json(state.as_json())

Pure: nothing is read, sent or awaited here, and equal input gives equal output.
"""

from largeforge.rollout.analysis import Assessment, Verdict
from largeforge.rollout.decisions import COMMANDS, command, decide, start
from largeforge.rollout.observations import Arm, Graded, Histogram, Observation
from largeforge.rollout.state import Decision, Entry, State

__all__ = [
    "COMMANDS",
    "Arm",
    "Assessment",
    "Decision",
    "Entry",
    "Graded",
    "Histogram",
    "Observation",
    "State",
    "Verdict",
    "command",
    "decide",
    "start",
]
