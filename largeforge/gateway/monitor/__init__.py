"""The page for people without Grafana: live traffic, experts and their servers, objectives, quality, rollouts.

reading.py     what the counters of this worker say now, as plain numbers
history.py     a ring of the last ten minutes by the second, and of the last five by their counters
objectives.py  good and all events of an objective
rollouts.py    rollouts, and whether somebody looks after them
telling.py     the parts of all workers as one document
pages.py       GET /monitor and GET /monitor/data
"""
