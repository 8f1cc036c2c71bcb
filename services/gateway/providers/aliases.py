"""Names that stand for models, and the routes they lead to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from services.gateway.domain import Route, Target, Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from services.gateway.domain import Deployment

D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class AliasTarget:
    """One name behind an alias: a model or another alias.

    Attributes:
        model: The name.
        weight: Share among the targets of its rank.
        rank: 0 is asked first.
    """

    model: str
    weight: int = 1
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias; `stored` where it is in our own tables and not in the environment."""

    name: str
    targets: tuple[AliasTarget, ...]
    timeouts: Timeouts = field(default_factory=Timeouts)
    stored: bool = False


def loops(aliases: Mapping[str, Alias]) -> set[str]:
    """Returns the aliases whose targets lead back to them."""
    return {name for name in aliases if _reaches(name, name, aliases, set())}


def widest(aliases: Mapping[str, Alias]) -> int:
    """Returns how many ways lead from the alias that has the most of them to models; none of them may lead back."""
    known: dict[str, int] = {}

    def ways(name: str) -> int:
        if name not in aliases:
            return 1
        if name not in known:
            known[name] = 1  # where one of the environment leads back
            known[name] = sum(ways(target.model) for target in aliases[name].targets)
        return known[name]

    return max(map(ways, aliases), default=0)


def route(
    name: str, aliases: Mapping[str, Alias], find: Callable[[str], D | None]
) -> tuple[tuple[tuple[D, float, Timeouts], ...], ...]:
    """Returns what an alias stands for, rank by rank: deployments, their weights, and how long the aliases on the way would wait.

    The targets of an alias behind an alias share its weight. What is not found is left out, and so is a rank without anything; an alias
    that leads back to itself leads nowhere.

    Args:
        name: The alias.
        aliases: All of them, by name.
        find: Returns the deployment of a model, or None.
    """
    return _ranks(name, aliases, find, ())


def _ranks(
    name: str, aliases: Mapping[str, Alias], find: Callable[[str], D | None], above: tuple[str, ...]
) -> tuple[tuple[tuple[D, float, Timeouts], ...], ...]:
    alias = aliases[name]
    found: list[tuple[tuple[D, float, Timeouts], ...]] = []
    for rank in sorted({target.rank for target in alias.targets}):
        merged: list[list[tuple[D, float, Timeouts]]] = []
        for target in alias.targets:
            if target.rank != rank:
                continue
            for depth, inner in enumerate(_target(target, aliases, find, (*above, name))):
                whole = sum(weight for _, weight, _ in inner)
                while len(merged) <= depth:
                    merged.append([])
                merged[depth] += [
                    (one, target.weight * weight / whole, alias.timeouts.before(timeouts))
                    for one, weight, timeouts in inner
                ]
        found += [tuple(one) for one in merged if one]
    return tuple(found)


def _target(
    target: AliasTarget, aliases: Mapping[str, Alias], find: Callable[[str], D | None], above: tuple[str, ...]
) -> Sequence[tuple[tuple[D, float, Timeouts], ...]]:
    if target.model in aliases and target.model not in above:
        return _ranks(target.model, aliases, find, above)
    # An alias may have the name of a model that it stands for.
    found = find(target.model)
    return [((found, 1.0, Timeouts()),)] if found is not None else []


def _reaches(start: str, name: str, aliases: Mapping[str, Alias], seen: set[str]) -> bool:
    for target in aliases[name].targets:
        following = target.model
        if following not in aliases or following in seen:
            continue
        if following == start:
            return True
        seen.add(following)
        if _reaches(start, following, aliases, seen):
            return True
    return False


def as_route(ranks: Sequence[Sequence[tuple[Deployment, float, Timeouts]]]) -> Route:
    """Returns deployments with the waits of their aliases, each on its first place only."""
    seen: set[str] = set()
    kept = []
    for rank in ranks:
        targets = []
        for deployment, weight, timeouts in rank:
            if deployment.key not in seen:
                seen.add(deployment.key)
                targets.append(Target(deployment.waiting(timeouts.before(deployment.timeouts)), weight))
        if targets:
            kept.append(tuple(targets))
    return Route(tuple(kept))
