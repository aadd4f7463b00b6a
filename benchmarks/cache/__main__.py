"""`python -m benchmarks.cache`: what a look-up costs, and which share of the possible hits the tiers give."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import report
from benchmarks.cache import disk_speed, exact_hit, million, overall, semantic, single_flight, tenants, zipf
from benchmarks.report import Claim, Options

CLAIMS = (
    *exact_hit.CLAIMS,
    *zipf.CLAIMS,
    overall.CLAIM,
    million.CLAIM,
    disk_speed.CLAIM,
    tenants.CLAIM,
    *semantic.CLAIMS,
    *single_flight.CLAIMS,
)


def measure(options: Options) -> Iterator[Claim]:
    """Nothing is kept from one claim to the next."""
    if any(map(options.wants, exact_hit.CLAIMS)):
        yield from exact_hit.exact_hit(options)
    for name in zipf.CLAIMS:
        if options.wants(name):
            yield zipf.share_of_possible_hits(options, name)
    if options.wants(overall.CLAIM):
        yield overall.hits_beside_lru(options)
    if options.wants(million.CLAIM):
        yield million.memory_of_a_million(options)
    if options.wants(disk_speed.CLAIM):
        yield disk_speed.disk_speed(options)
    if options.wants(tenants.CLAIM):
        yield tenants.cross_tenant_hits(options)
    yield from semantic.measure_semantic(options)
    if any(map(options.wants, single_flight.CLAIMS)):
        yield from single_flight.single_flight(options)


if __name__ == "__main__":
    report.run("cache", "Measures the response cache.", CLAIMS, measure)
