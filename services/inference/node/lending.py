"""The program's own life: get the model's files, then join node 0 again and again until told to stop."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from meshkit.clock import Clock, SystemClock
from meshkit.errors import BackendDown
from meshkit.server import first_signal
from meshkit.telemetry import logs, names
from services.inference.backoff import Backoff
from services.inference.engine.nodes.address import Address
from services.inference.engine.nodes.secret import NoSecret, read_secret
from services.inference.engine.nodes.terms import terms_of
from services.inference.engine.options import EngineOptions
from services.inference.launch import engine_options
from services.inference.model_loading import fetch_model
from services.inference.node.joining import NoLine, join
from services.inference.node.life import LifeOver, NodeLife, TurnedAway
from services.inference.settings import InferenceSettings

_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 5.0
_log = logs.get_logger(__name__)


async def lend(settings: InferenceSettings) -> None:
    """Return when told to stop; raises BackendDown where trying again would not help."""
    logs.configure("mesh-inference-node", settings.telemetry.log_level)
    stopping = first_signal()
    lending: asyncio.Future[None] = asyncio.ensure_future(_lend(settings, SystemClock()))
    waiting: set[asyncio.Future[None]] = {lending, stopping}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        lending.result()
    lending.cancel()
    await asyncio.gather(lending, return_exceptions=True)
    _log.info(names.LOG_STOPPED)


async def _lend(settings: InferenceSettings, clock: Clock) -> NoReturn:
    nodes = settings.nodes
    model = await fetch_model(settings)
    if model.directory is None:
        raise BackendDown("there is no model to lend ranks for: set model.source")
    options = engine_options(
        settings.engine, model.directory, settings.model.cache_dir, fd=-1, nodes=nodes, revision=model.revision
    )
    backoff = Backoff(first_s=_FIRST_BACKOFF_S, longest_s=_LONGEST_BACKOFF_S)
    last_reason = ""
    while True:
        began = clock.now()
        try:
            reason = await _one_life(nodes.address, options, clock)
        except TurnedAway as problem:
            raise BackendDown(f"node 0 turned this host away: {problem}") from None
        if reason != last_reason:
            _log.warning(names.LOG_NODE_LEFT, reason=reason)
        last_reason = reason
        await clock.sleep(backoff.after(clock.now() - began))


async def _one_life(address: Address, options: EngineOptions, clock: Clock) -> str:
    """Why it ended. The secret is read anew each time, so that it can be changed without a restart."""
    try:
        secret = await asyncio.to_thread(read_secret, options.secret_file)
        joined = await join(address, secret, terms_of(options))
        _log.info(names.LOG_NODE_JOINED, node_0=str(address), local=str(joined.local))
        await NodeLife(joined, options, clock).run()
    except (NoSecret, NoLine, LifeOver) as problem:
        return str(problem)
