"""`python -m imagematrix`."""

import gc
import sys

from imagematrix.cli import main

# A command ends soon; looking for garbage takes a tenth of the time to plan ten thousand images.
gc.disable()
sys.exit(main())
