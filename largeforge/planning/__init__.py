"""Turn a recipe into a plan: the stages, what each reads and makes, and their identity.

    make.py      the whole plan, in an order in which it can run, with fingerprints and lock
    job.py       what the stages of one training job have in common, and which there are
    training.py  judging.py  release.py  serving.py      the stages themselves

Pure but for hashing the data files. A stage's `config` is all that its process is given, and
its fingerprint covers just that, the fingerprints of its inputs and the package versions: two
stages with one fingerprint make the same artifact.
"""

from largeforge.planning.job import stage_name
from largeforge.planning.make import make_plan

__all__ = ["make_plan", "stage_name"]
