"""One answer on its way: read by one task, closed by any."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from meshclient.events import Delta, Event, Finished
from meshkit.calls import Stream


class OpenCall:
    """The call behind an answer, whichever attempt it is."""

    def __init__(self) -> None:
        self._stream: Stream | None = None
        self._is_closed = False

    def begin(self, stream: Stream) -> None:
        """This is the call now; after `close` it is cancelled at once."""
        self._stream = stream
        if self._is_closed:
            stream.cancel()

    def close(self) -> None:
        """Cancel the call, and every later one."""
        self._is_closed = True
        if self._stream is not None:
            self._stream.cancel()


class Generation:
    """Iterating it yields events; leaving the loop, or `close`, cancels the work."""

    def __init__(self, events: AsyncGenerator[Event, None], call: OpenCall) -> None:
        self._events = events
        self._call = call
        self.finished: Finished | None = None
        """The bill, once it has come."""

    async def __aiter__(self) -> AsyncGenerator[Event, None]:
        try:
            async for event in self._events:
                if isinstance(event, Finished):
                    self.finished = event
                yield event
        finally:
            self._call.close()
            await self._events.aclose()

    async def text(self) -> str:
        """The whole text of the first answer."""
        return "".join([event.text async for event in self if isinstance(event, Delta) and event.index == 0])

    async def close(self) -> None:
        """Cancel what still runs, from any task; a task that is reading gets Cancelled."""
        self._call.close()
