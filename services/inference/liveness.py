"""Whether a silent engine is at work or hung. A rule on plain numbers; `rank_watch.py` reads them from the system.

A stopped rank (SIGSTOP, a debugger) is hung after a short time, whatever the others say: an idle engine would notice it
at its next step only. Otherwise silence decides. An engine speaks after each step and every second while idle. A long
prefill keeps it silent for seconds, but then each rank uses the processor (one that waits for another in an all-reduce
spins). So silence alone is hung only after a long time, and silence with a rank that does nothing soon.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping


class Liveness:
    """Collects signs of life of one engine life. Times are monotonic seconds."""

    def __init__(self, *, silence_s: float, longest_step_s: float, now: float) -> None:
        self._silence_s = silence_s
        self._longest_step_s = longest_step_s
        self._heard_at = now
        self._cpu_s: dict[int, float] = {}
        self._worked_at: dict[int, float] = {}
        self._stopped_at: dict[int, float] = {}

    def heard(self, now: float) -> None:
        """The engine said something."""
        self._heard_at = now

    def excuse(self, seconds: float) -> None:
        """The listener itself did not run for so long: it could not have heard anybody."""
        self._heard_at += seconds
        for times in (self._worked_at, self._stopped_at):
            times.update({rank: at + seconds for rank, at in times.items()})

    def halt(self, now: float, stopped: Collection[int]) -> str:
        """Which rank has been stopped for too long; empty while none has."""
        self._stopped_at = {rank: self._stopped_at.get(rank, now) for rank in sorted(stopped)}
        for rank, since in self._stopped_at.items():
            if now - since > self._silence_s:
                return f"rank {rank} has hung: it has been stopped for {now - since:.1f} s"
        return ""

    def problem(self, now: float, cpu_s: Mapping[int, float]) -> str:
        """What is wrong, given the processor seconds that each rank has used so far; empty while all is well."""
        for rank, used_s in cpu_s.items():
            if self._cpu_s.get(rank) != used_s:
                self._cpu_s[rank], self._worked_at[rank] = used_s, now
        silent_s = now - self._heard_at
        if silent_s > self._longest_step_s:
            return f"the engine said nothing for {silent_s:.1f} s"
        if silent_s > self._silence_s:
            for rank, worked_at in self._worked_at.items():
                if now - worked_at > self._silence_s:
                    return f"rank {rank} has hung: nothing said or done for {now - worked_at:.1f} s"
        return ""
