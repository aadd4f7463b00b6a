"""Before rank 0 does anything else: wait for the other nodes, and settle where all ranks will meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from services.inference.engine.faults import RankFailed
from services.inference.engine.messages import Fatal
from services.inference.engine.nodes.address import Address, interface_of, parse_address
from services.inference.engine.nodes.gate import Gate, listen
from services.inference.engine.nodes.lines import FarNodes, Line
from services.inference.engine.nodes.meeting import SCHEME
from services.inference.engine.nodes.secret import NoSecret, read_secret
from services.inference.engine.nodes.terms import terms_of
from services.inference.engine.options import EngineOptions


def muster(
    options: EngineOptions, say: Callable[[str], None], on_lost: Callable[[Fatal], None]
) -> tuple[EngineOptions, FarNodes]:
    """All other nodes, with their ranks starting; and the options that follow from it. Raises RankFailed."""
    address = parse_address(options.listen)
    try:
        secret = read_secret(options.secret_file)
    except NoSecret as problem:
        raise RankFailed(Fatal(problem=str(problem), advice="See nodes.secret_file.")) from problem
    gate = Gate(address, terms_of(options), secret, say)
    say(f"waiting for {options.nodes - 1} other nodes at {address}")
    lines = gate.wait_for_all(options.join_timeout_s)
    store = listen(Address(host=address.host, port=0))
    port = int(store.getsockname()[1])

    def meeting_place(line: Line) -> str:
        return f"{SCHEME}{Address(host=line.local.host, port=port)}"

    far = FarNodes(lines, ranks_per_node=options.local_size, silence_s=options.node_silence_s, on_lost=on_lost)
    far.start(meeting_place)
    here = lines[0].local.host
    settled = replace(
        options, rendezvous=meeting_place(lines[0]), interface=interface_of(here), store_fd=store.detach()
    )
    return settled, far
