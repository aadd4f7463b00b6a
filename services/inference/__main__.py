"""Starts one instance of the inference service, or with `nodes.rank` over 0 lends this host's ranks to one."""

from collections.abc import Callable

from meshkit.chassis import Chassis
from meshkit.main import run
from meshkit.server import serve
from meshkit.service import Service
from services.inference.app import InferenceService, build
from services.inference.node.lending import lend
from services.inference.settings import InferenceSettings

_ABOUT = (
    "One model over several hosts: the same command and file on each, with nodes.count, nodes.rendezvous and "
    "nodes.secret_file, and another MESH_INFERENCE_NODES__RANK; 0 serves, the others lend it their ranks."
)


async def serve_or_lend(
    name: str,
    settings: InferenceSettings,
    build: Callable[[InferenceSettings, Chassis], Service],
    service_type: type[Service],
) -> None:
    """What this process is follows from its node's number."""
    if settings.nodes.rank == 0:
        await serve(name, settings, build, service_type)
    else:
        await lend(settings)


if __name__ == "__main__":
    run("inference", InferenceSettings, build, InferenceService, serve=serve_or_lend, about=_ABOUT)
