"""`python -m imagematrix`."""

import gc
import sys

# A command ends soon; looking for garbage takes a tenth of the time to plan ten thousand images,
# and a fifth of the time that the imports take.
gc.disable()

from imagematrix.cli import main  # noqa: E402

sys.exit(main())
