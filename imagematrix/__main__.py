"""`python -m imagematrix`."""

import sys

from imagematrix.cli import main

sys.exit(main())
