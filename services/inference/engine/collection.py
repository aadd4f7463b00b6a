"""When Python's cyclic garbage collector runs in an engine: not while libraries are imported.

An import makes a million objects that stay for good. Looking through them over and over took a tenth of the start, and
would take time of steps later.
"""

from __future__ import annotations

import gc


def pause() -> None:
    """Call before anything heavy is imported."""
    gc.disable()


def resume() -> None:
    """Collect from now on what is made from now on."""
    gc.freeze()
    gc.enable()
