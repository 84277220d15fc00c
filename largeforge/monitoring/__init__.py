"""What Prometheus, Alertmanager and Grafana are told of a deployment: pure, from the recipe's sections.

names.py         metrics of the gateway, as everybody here writes them
indicators.py    PromQL for the good and bad events of objectives
signals.py       PromQL for numbers as they are now
rules.py         recording and alert rules
scrape.py        what Prometheus measures, and where
alertmanager.py  who is told of alerts
panels.py        what dashboards show
dashboards.py    the same as Grafana's JSON, and what finds it there
logs.py          how logs are shipped
text.py          YAML
"""
