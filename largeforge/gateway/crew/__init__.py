"""Several workers that are one gateway: kept running, with one view of the load and one page of metrics."""
