"""How are coroutines of a script run? On one event loop for the life of the worker.

What ``init()`` opens on that loop (a client session, a lock) can be used in every ``run()``.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from typing import Any, Awaitable, Callable


class Coroutines:
    """The event loop of one worker.

    With one ``run()`` at a time, the loop runs on the calling thread and stops between two calls,
    so that a time limit interrupts it. Otherwise it has a thread of its own.
    """

    def __init__(self, concurrent: bool) -> None:
        self._concurrent = concurrent
        self._loop = asyncio.new_event_loop()
        if concurrent:
            threading.Thread(target=self._loop.run_forever, name="asyncio", daemon=True).start()
        else:
            asyncio.set_event_loop(self._loop)

    def blocking(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that waits for the result of ``function``, which may be a coroutine or not."""

        @functools.wraps(function)
        def call(*args: Any, **arguments: Any) -> Any:
            result = function(*args, **arguments)
            return self._wait(result) if inspect.isawaitable(result) else result

        return call

    def _wait(self, awaitable: Awaitable[Any]) -> Any:
        if self._concurrent:
            running = asyncio.run_coroutine_threadsafe(_await(awaitable), self._loop)
            try:
                return running.result()
            except BaseException:
                running.cancel()
                raise
        task = self._loop.create_task(_await(awaitable))
        try:
            return self._loop.run_until_complete(task)
        except BaseException:
            # The time limit was raised in the loop: end the task before the next run.
            if not task.done():
                task.cancel()
                self._loop.run_until_complete(asyncio.wait([task]))
            raise


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
