"""Which models can be asked for now: what the registered instances say of themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from meshkit.errors import BackendDown, NotFound
from meshkit.registry.base import Instance
from services.router.pricing import FREE, Price

DEFAULT_TIER = "standard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model, by the instances that serve it."""

    name: str
    tier: str
    revisions: tuple[str, ...]
    template_digest: str
    context_tokens: int
    price: Price
    instances: tuple[Instance, ...]

    @property
    def ready_count(self) -> int:
        return sum(instance.is_passing for instance in self.instances)


class Catalogue:
    """Models by name and tier, from instances' metadata and the deployment's prices."""

    def __init__(self, prices: Mapping[str, Price], default_model: str = "") -> None:
        self._prices = prices
        self._default_model = default_model

    def models(self, instances: tuple[Instance, ...]) -> list[Model]:
        """Every model, by name."""
        groups: dict[str, list[Instance]] = defaultdict(list)
        for instance in instances:
            groups[instance.metadata.get("model", "")].append(instance)
        return [self._describe(name, tuple(group)) for name, group in sorted(groups.items())]

    def choose(self, instances: tuple[Instance, ...], *, model: str = "", tier: str = "") -> Model:
        """The model for a request: by name, else the cheapest of the tier, else the default, else the cheapest.

        Raises NotFound for a name or tier that nobody serves, BackendDown while no instance is known at all.
        """
        models = self.models(instances)
        if not models:
            raise BackendDown("no inference instance is known yet; try again in a moment")
        wanted = model or ("" if tier else self._default_model)
        if wanted:
            return _first([m for m in models if m.name == wanted], "model", wanted, [m.name for m in models])
        if tier:
            return _first([m for m in models if m.tier == tier], "tier", tier, sorted({m.tier for m in models}))
        return _first(models, "model", "", [])

    def _describe(self, name: str, instances: tuple[Instance, ...]) -> Model:
        metadata = instances[0].metadata
        tier = metadata.get("tier", DEFAULT_TIER)
        return Model(
            name=name,
            tier=tier,
            revisions=tuple(sorted({i.metadata.get("revision", "") for i in instances})),
            template_digest=metadata.get("template_digest", ""),
            context_tokens=int(metadata.get("context_tokens", "0") or 0),
            price=self._prices.get(tier, FREE),
            instances=instances,
        )


def _first(found: list[Model], kind: str, name: str, known: list[str]) -> Model:
    """The cheapest that is ready, else the cheapest; one without a price is never the cheapest."""
    if not found:
        raise NotFound(f"{kind}: nobody serves {kind} {name!r}; known: {', '.join(known)}")
    return min(found, key=lambda m: (m.ready_count == 0, m.price is FREE, m.price.output_micro_usd, m.name))
