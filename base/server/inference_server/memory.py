"""How much may requests and answers hold? One account for all that the front keeps for clients.

Whoever keeps bytes for a client takes them here first, and gives them back. The limit is what the
container's memory limit leaves beside the models, measured while nothing is held.
"""

from __future__ import annotations

import mmap
from typing import Callable, Optional

from . import cgroup
from .workers.frames import Buffer

# Of these many bytes that the limit leaves, this share is for clients; the rest is for what cannot
# be counted: garbage that is not collected yet, buffers of the system, pages of programs.
SHARE = 0.85
# Of the account, large bodies never take all: small requests go on beside them. Answers that wait
# for slow clients take less: the worker needs memory for the next ones, and can keep them as well.
BODIES = 0.9
ANSWERS = 0.25
# A service whose model takes all there is still answers small requests.
LEAST = 4 * 1024 * 1024
MOST = 2 * 1024 * 1024 * 1024
# While so little is held, what is in use is not the clients'.
QUIET = 1024 * 1024


class Memory:
    """Bytes that are held for clients. All methods belong to the thread of the loop."""

    def __init__(self, fixed: Optional[int] = None) -> None:
        self.limit = fixed or MOST
        self.held = 0
        # Is called when bytes were given back.
        self.on_room: Callable[[], None] = lambda: None
        self._fixed = fixed
        self.measure()

    def take(self, size: int, share: float = 1.0) -> bool:
        """Hold so many more bytes, if with them no more than a share of the limit is held."""
        held = self.held + size
        if held > self.limit * share:
            return False
        self.held = held
        return True

    def give(self, size: int) -> None:
        """Hold so many bytes less."""
        if size:
            self.held -= size
            self.on_room()

    def ever_fits(self, size: int) -> bool:
        """Whether a large body of this size finds room when nothing else is held."""
        return size <= self.limit * BODIES

    def measure(self, lasting: int = 0) -> None:
        """Set the limit by what is free now, unless it was given.

        Not while more is held than those ``lasting`` bytes, and a little: what is in use then is
        the clients'.
        """
        if self._fixed or self.held - lasting > QUIET:
            return
        room = cgroup.memory_room()
        if room is not None:
            self.limit = int(min(MOST, max(LEAST, room * SHARE + self.held)))


class LargeBody:
    """A body that is being received, outside Python's heap: its pages go back when it ends."""

    def __init__(self, capacity: int) -> None:
        self._map = self._make(capacity)
        self.size = 0

    @staticmethod
    def _make(capacity: int) -> mmap.mmap:
        return mmap.mmap(-1, capacity, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def write(self, part: Buffer) -> None:
        """Add a part. Room that is not written to takes no memory."""
        end = self.size + len(part)
        if end > len(self._map):
            self._map.resize(max(end, 2 * len(self._map)))
        self._map[self.size : end] = part
        self.size = end

    def view(self) -> memoryview:
        """All of it; after this nothing is added."""
        return memoryview(self._map)[: self.size]
