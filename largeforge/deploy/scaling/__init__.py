"""Start and stop replicas of a deployment as `autoscale` decides.

readings.py    what gateways measure, as an observation. Pure
runs.py        how often replicas have failed to start in a row
seats.py       which replicas run, and what is to be done so that as many run as are wanted. Pure
kept.py        what is written down on hosts. Pure
hands.py       looking at hosts, and doing it there
controller.py  the loop
"""
