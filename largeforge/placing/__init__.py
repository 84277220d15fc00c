"""Where servers run: replicas of experts onto the GPUs and hosts of an inventory, by the memory that they need.

    placing = place(demands, hosts, keep=seats_of_now)
    placing.seats             which host and GPUs, how many bytes of each, which share, which port slot
    placing.refused           why not all fit, and the nearest changes with which they do; None when they fit
    placing.rows()            what is on each GPU, for a table

Pure: nothing is read or started, and equal input gives equal output, in whatever order it is named.
"""

from largeforge.placing.model import Change, Demand, Gpu, HostCapacity, Placing, Refusal, Row, Seat
from largeforge.placing.placement import place

__all__ = ["Change", "Demand", "Gpu", "HostCapacity", "Placing", "Refusal", "Row", "Seat", "place"]
