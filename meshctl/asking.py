"""Asks a router through the client that every caller uses; errors become sentences for the operator."""

import contextlib
from collections.abc import AsyncIterator, Iterator

from mesh.router.v1 import router_service_pb2
from meshclient import Event, MeshClient
from meshctl.failure import CommandFailed, ExitCode
from meshctl.question import Question, request_of
from meshkit.errors import BackendDown, MeshError, NotReady

MODELS_TIMEOUT_S = 10.0


async def events(router: str, question: Question, timeout_s: float) -> AsyncIterator[Event]:
    """The answer as it is made; dropping the iterator cancels it. Raises CommandFailed."""
    async with MeshClient(router) as mesh:
        answer = mesh.generate(question.turns, request=request_of(question), timeout_s=timeout_s)
        try:
            with _told(router):
                async for event in answer:
                    yield event
        finally:
            await answer.close()


async def models(router: str) -> list[router_service_pb2.Model]:
    """What can be asked for now. Raises CommandFailed."""
    async with MeshClient(router, timeout_s=MODELS_TIMEOUT_S) as mesh:
        with _told(router):
            return await mesh.models()


@contextlib.contextmanager
def _told(router: str) -> Iterator[None]:
    try:
        yield
    except BackendDown as error:
        raise CommandFailed(
            f"{error}: `meshctl status` shows what runs, `meshctl up` starts a mesh, --router names another",
            ExitCode.UNREACHABLE,
        ) from error
    except NotReady as error:
        raise CommandFailed(f"{error}: see `meshctl status`", ExitCode.UNREACHABLE) from error
    except MeshError as error:
        raise CommandFailed(f"{error} ({error.reason})") from error
