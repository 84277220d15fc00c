"""How good answers are, judged beside the traffic: nothing here delays, changes or fails a request."""
