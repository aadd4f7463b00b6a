"""The probe as a process of its own: `python -m tests.support.probe_process`. Its stream lasts as long as is asked."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from mesh.cache.v1 import cache_service_pb2 as cache
from meshkit.chassis import Chassis
from meshkit.errors import NotFound
from meshkit.main import run
from meshkit.service import Service
from meshkit.settings import ServiceSettings
from tests.support.probe_service import Probe

BEAT_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeGroup:
    loading_s: float = 0.0
    fails: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings(ServiceSettings):
    probe: ProbeGroup = field(default_factory=ProbeGroup)


async def beats(request: cache.FollowRequest) -> AsyncGenerator[cache.FollowResponse, None]:
    """As many messages as `from_event` says, one each 50 ms."""
    for _ in range(request.from_event):
        yield cache.FollowResponse()
        await asyncio.sleep(BEAT_S)


def build(settings: ProbeSettings, chassis: Chassis) -> Service:
    async def load() -> None:
        await asyncio.sleep(settings.probe.loading_s)
        if settings.probe.fails:
            raise NotFound("no model of this name: tiny")

    return Probe(follow=beats, on_start=load)


if __name__ == "__main__":
    run("probe", ProbeSettings, build, Probe)
