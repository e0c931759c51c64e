"""`python -m tightbound`: the same as the command `tightbound`."""

import sys

from tightbound.cli import main

sys.exit(main())
