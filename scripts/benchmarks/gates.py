"""What the way to production costs: `evaluate`, `quantize --serve` and `registry`, one after the other.

Each is a benchmark of its own, with options of its own; here they run with the sizes that docs/benchmarks.md reports.
"""

from __future__ import annotations

import argparse

from scripts.benchmarks import evaluate, quantize, registry

SUMMARY = "evaluating, quantizing and registering, one after the other"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to evaluate and quantize")
    parser.add_argument("--gib", default="9.32", help="size of the model to register (%(default)s: 10 GB)")


def run(options: argparse.Namespace) -> int:
    """Run the three and return the first exit code that is not 0."""
    device = ["--device", options.device]
    codes = []
    for benchmark, words in ((evaluate, device), (quantize, [*device, "--serve"]), (registry, ["--gib", options.gib])):
        print(f"\n{benchmark.SUMMARY}\n", flush=True)
        parser = argparse.ArgumentParser()
        benchmark.add_arguments(parser)
        codes.append(benchmark.run(parser.parse_args(words)))
    return next((code for code in codes if code), 0)
