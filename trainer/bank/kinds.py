"""Whether good pictures are of several kinds: those of one kind look more like each other than like all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

MOST_KINDS = 6
# Mean silhouette of the pictures from which their groups are kinds. Of four sets of real parts, by their mean descriptors, it
# was 0.03 to 0.25, and 0.26 with a hole that some lack; with another part among them 0.51 to 0.75, with gray pictures among
# those in colour 0.39 to 0.53, with some turned by 90 degrees 0.48 to 0.64.
APART = 0.35
# Mean distance of two groups from which they are kinds: parts that are nearly the same fall into groups by the least of their light.
# Groups of one kind lay 0.12 (six plates) to 0.35 (ten commutators) apart, kinds 0.53 to 0.95.
FARTHER = 0.4


def kinds_of(means: np.ndarray) -> list[list[int]]:
    """Group pictures by kind, the largest group first; all are of one kind where no grouping separates them.

    means: (n, D), the mean descriptor of each picture.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist, squareform

    count = len(means)
    best, groups = APART, np.zeros(count, int)
    if count > 2:
        between = pdist(means)
        tree, square = linkage(between, "average"), squareform(between)
        for wanted in range(2, min(MOST_KINDS + 1, count)):
            group = fcluster(tree, wanted, "maxclust")
            if group.max() > 1 and _nearest(square, group) > FARTHER and (found := _silhouette(square, group)) > best:
                best, groups = found, group
    return sorted(
        (np.flatnonzero(groups == one).tolist() for one in np.unique(groups)), key=lambda some: (-len(some), some[0])
    )


def said_of(kinds: Sequence[Sequence[int]], names: Sequence[str], most_named: int | None = None) -> Iterator[str]:
    """Yield which pictures belong to which kind, and what to do; nothing where all are of one kind.

    Args:
        kinds: numbers of the pictures, by kind.
        names: of all pictures.
        most_named: of each kind; default all.
    """
    if len(kinds) < 2:
        return
    groups = []
    for some in kinds:
        named = [names[at] for at in some[:most_named]]
        more = f" and {len(some) - len(named)} more" if len(some) > len(named) else ""
        groups.append(f"{len(some)} ({', '.join(named)}{more})")
    yield (
        f"The good pictures look to be of {len(kinds)} kinds: {', '.join(groups[:-1])} and {groups[-1]}. If they come mixed on"
        " this line, show 20 or more of each. If each has a line of its own, make a station of each, from a folder of its own."
        " What does not belong here, take out; then run the command again."
    )


def _nearest(square: np.ndarray, group: np.ndarray) -> float:
    """Return the mean distance of the two groups that lie nearest to each other. square, group: see _silhouette."""
    some = [np.flatnonzero(group == one) for one in np.unique(group)]
    return min(float(square[np.ix_(one, other)].mean()) for one, other in combinations(some, 2))


def _silhouette(square: np.ndarray, group: np.ndarray) -> float:
    """Return the mean silhouette (Rousseeuw 1987): 1 where groups are points, 0 where they are arbitrary; of a single one 0.

    Args:
        square: (n, n) distances.
        group: (n,) of each.
    """
    members = group == np.unique(group)[:, None]
    sums, sizes = square @ members.T, members.sum(axis=1)
    own = members.T
    inside = sums[own] / np.maximum(sizes[np.argmax(own, axis=1)] - 1, 1)
    outside = np.where(own, np.inf, sums / sizes).min(axis=1)
    alone = sizes[np.argmax(own, axis=1)] == 1
    found = (outside - inside) / np.maximum(np.maximum(outside, inside), 1e-12)
    return float(np.where(alone, 0.0, found).mean())
