"""Turns what the operator asked for into a plan: checks the machine, gets Consul and the model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from meshctl.failure import CommandFailed, ExitCode
from meshctl.local.checks import costly_lacks, port_problems, room_problems
from meshctl.local.model import obtain_model
from meshctl.local.plan import MeshPlan
from meshctl.local.ports import Ports
from meshctl.progress import Progress
from meshkit.consul_binary import ConsulUnavailable, default_cache_dir, obtain_consul


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The options of `meshctl up`."""

    run_dir: Path
    ports: Ports
    model: str | None
    registry: str
    tensor_parallel_size: int | None
    skips_checks: bool


def prepare(wish: Wish, progress: Progress) -> MeshPlan:
    """Everything that must be there before the first process starts. Raises CommandFailed."""
    problems = list(_problems(wish))
    if problems:
        raise CommandFailed("\n       ".join(problems), ExitCode.NOT_POSSIBLE)
    for lack in costly_lacks():
        progress.say(f"note: {lack}")
    with progress.step("getting Consul") as step:
        consul_binary = _consul(wish.registry, step.note, progress)
    with progress.step("getting the model") as step:
        model = obtain_model(wish.model, step.note)
    return MeshPlan(
        run_dir=wish.run_dir,
        cache_dir=default_cache_dir(),
        ports=wish.ports,
        model_source=model.source,
        model_name=model.name,
        consul_binary=consul_binary,
        tensor_parallel_size=wish.tensor_parallel_size or 0,
    )


def _problems(wish: Wish) -> Iterator[str]:
    yield from port_problems(wish.ports, uses_consul=wish.registry != "file")
    if not wish.skips_checks:
        yield from room_problems(wish.run_dir)


def _consul(registry: str, note: Callable[[str], None], progress: Progress) -> Path | None:
    """None: the file registry stands in, because it was asked for or because no Consul can be had."""
    if registry == "file":
        return None
    try:
        return obtain_consul(say=note)
    except ConsulUnavailable as problem:
        if registry == "consul":
            raise CommandFailed(str(problem), ExitCode.NOT_POSSIBLE) from problem
        progress.say(f"note: {problem}; going on with the file registry")
        return None
