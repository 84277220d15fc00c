"""`scripts/bench NAME`: run one benchmark; every other module of this folder is one."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from pathlib import Path


def main() -> int:
    """Run the benchmark that the command line names; return its exit code."""
    os.environ.pop("PYTHONPATH", None)  # set by scripts/bench for this process only
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure LargeForge on this machine.")
    chosen = parser.add_subparsers(required=True, metavar="NAME")
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("_"):
            continue
        benchmark = importlib.import_module(f"scripts.benchmarks.{module.name}")
        named = chosen.add_parser(module.name, help=benchmark.SUMMARY, description=benchmark.__doc__)
        benchmark.add_arguments(named)
        named.set_defaults(benchmark=benchmark)
    options = parser.parse_args()
    return int(options.benchmark.run(options))


if __name__ == "__main__":
    sys.exit(main())
