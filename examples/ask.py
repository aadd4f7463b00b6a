"""Ask the mesh and print the answer as it is made: `python examples/ask.py "Why is the sky blue?"`.

Finds a router through Consul (CONSUL_URL, default http://127.0.0.1:8500), or takes the one in MESH_ROUTER (host:port).
"""

import asyncio
import os
import sys

from meshclient import Delta, MeshClient


async def main(question: str) -> None:
    router = os.environ.get("MESH_ROUTER")
    consul_url = os.environ.get("CONSUL_URL", "http://127.0.0.1:8500")
    async with MeshClient(router) if router else MeshClient.discover(consul_url) as mesh:
        answer = mesh.generate(question, max_tokens=64, timeout_s=60)
        async for event in answer:
            if isinstance(event, Delta):
                print(event.text, end="", flush=True)
        if answer.finished:
            print(f"\n{answer.finished.usage.completion_tokens} tokens, {answer.finished.cost.total} micro-USD")


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "Why is the sky blue?"))
