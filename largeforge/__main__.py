"""`python -m largeforge`: the same as the console script `largeforge`."""

import sys

from largeforge.cli import main

sys.exit(main())
