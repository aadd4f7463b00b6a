"""The engine process: `python -m services.inference.engine --fd N --model-dir DIR ...`, rank 0 and the ranks under it.

Before anything heavy is imported, stdout is pointed at stderr (libraries print), Ctrl-C is left to the RPC process
(which drains first), the kernel is asked to end this process with its parent, and the environment that torch and
DeepSpeed read is set.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn


def main(arguments: list[str]) -> NoReturn:
    from services.inference.engine import collection
    from services.inference.engine.options import parse
    from services.inference.engine.ranks import die_with_parent

    collection.pause()
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    options = parse(arguments)
    die_with_parent(options.parent_pid)
    if options.rank == 0:
        from services.inference.engine.leader import lead

        lead(options)
    from services.inference.engine.follower import follow

    follow(options)


if __name__ == "__main__":
    main(sys.argv[1:])
