"""`python -m imagematrix`."""

import gc
import sys
from pathlib import Path

# A command ends soon; looking for garbage takes a tenth of the time to plan ten thousand images,
# and a fifth of the time that the imports take.
gc.disable()

from imagematrix.errors import exit_status_of  # noqa: E402
from imagematrix.unchanged import unchanged_build  # noqa: E402


def run() -> int:
    """Runs the command that was given; returns its exit status."""
    command, *arguments = sys.argv[1:] or [""]
    status = unchanged_build(Path.cwd(), arguments) if command == "build" else None
    if status is not None:
        return status
    # Most of what a command takes when nothing changed would be this import.
    from imagematrix.cli import main

    return main()


sys.exit(exit_status_of(run))
