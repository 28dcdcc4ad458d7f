"""How much memory may requests and answers take? One account for all that the service keeps.

Code that keeps bytes for a client takes them from the account first, and gives them back later. The
limit is what the container's memory limit leaves beside the models, measured while nothing is held.
"""

from __future__ import annotations

import mmap
from typing import Callable, Optional

from . import cgroup
from .workers.frames import Buffer

# The share of the free memory that is for clients. The rest is for what cannot be counted: garbage
# that is not collected yet, buffers of the system, pages of programs.
SHARE = 0.85
# Large bodies never take the whole account, so small requests go on beside them. Answers that wait
# for slow clients take less: the worker can keep them, and needs memory for the next ones.
BODIES = 0.9
ANSWERS = 0.25
# With less, a service whose model takes all memory could not answer small requests.
MIN_LIMIT = 4 * 1024 * 1024
MAX_LIMIT = 2 * 1024 * 1024 * 1024
# While less than this is held, clients do not affect what is measured.
IDLE_BYTES = 1024 * 1024


class Memory:
    """Bytes that are held for clients. To be used on the thread of the loop only."""

    def __init__(self, fixed: Optional[int] = None) -> None:
        self.limit = fixed or MAX_LIMIT
        self.held = 0
        # Called after bytes were given back.
        self.on_room: Callable[[], None] = lambda: None
        self._fixed = fixed
        self.measure()

    def take(self, size: int, share: float = 1.0) -> bool:
        """Hold ``size`` more bytes; False if that would exceed the share of the limit."""
        held = self.held + size
        if held > self.limit * share:
            return False
        self.held = held
        return True

    def give(self, size: int) -> None:
        """Give ``size`` bytes back."""
        if size:
            self.held -= size
            self.on_room()

    def ever_fits(self, size: int) -> bool:
        """Whether there is room for a large body of this size while nothing else is held."""
        return size <= self.limit * BODIES

    def measure(self, lasting: int = 0) -> None:
        """Set the limit by the memory that is free now, unless it was given.

        Only while little more than the ``lasting`` bytes is held; else the limit would shrink with
        each request.
        """
        if self._fixed or self.held - lasting > IDLE_BYTES:
            return
        room = cgroup.memory_room()
        if room is not None:
            self.limit = int(min(MAX_LIMIT, max(MIN_LIMIT, room * SHARE + self.held)))


class LargeBody:
    """A body that is being received, outside Python's heap: its pages are returned at its end."""

    def __init__(self, capacity: int) -> None:
        self._map = self._make(capacity)
        self.size = 0

    @staticmethod
    def _make(capacity: int) -> mmap.mmap:
        return mmap.mmap(-1, capacity, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def write(self, part: Buffer) -> None:
        """Append a part. Capacity that is not written to takes no memory."""
        end = self.size + len(part)
        if end > len(self._map):
            self._map.resize(max(end, 2 * len(self._map)))
        self._map[self.size : end] = part
        self.size = end

    def view(self) -> memoryview:
        """The whole body; nothing is appended after this."""
        return memoryview(self._map)[: self.size]
