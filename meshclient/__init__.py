"""The mesh for callers: find a router, ask, read typed events.

    async with MeshClient.discover() as mesh:
        async for event in mesh.generate("Why is the sky blue?", timeout_s=30):
            if isinstance(event, Delta):
                print(event.text, end="", flush=True)

Errors are those of `meshkit.errors`. Leaving the loop early cancels the work.
"""

from meshclient.client import MeshClient
from meshclient.events import Accepted, Cost, Delta, Event, Finished, Notice, Timings, Usage
from meshclient.generation import Generation

__all__ = [
    "Accepted",
    "Cost",
    "Delta",
    "Event",
    "Finished",
    "Generation",
    "MeshClient",
    "Notice",
    "Timings",
    "Usage",
]
