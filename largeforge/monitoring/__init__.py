"""What Prometheus, Alertmanager and Grafana are told of a deployment: pure, from the recipe's `slo` section.

names.py        metrics of the gateway, as everybody here writes them
indicators.py   PromQL for the good and bad events of objectives
signals.py      PromQL for numbers as they are now
rules.py        recording and alert rules
"""
