"""The nearest known name to one that a user wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST = 120


def known_names(found: str, known: Iterable[str]) -> str:
    """What is allowed, and the name nearest to the one found."""
    names = list(known)
    near = nearest(found, names)
    hint = f". Did you mean '{near}'?" if near else ""
    return f"known: {', '.join(names) or 'none'}{hint}"


def nearest(found: str, known: Iterable[str]) -> str | None:
    """The known name that `found` is a slip of: other case or separators, a part of the words, or a few letters.

    None rather than a guess: names that differ in a digit (vil_1, vil_4) are different names, not slips.
    """
    names = [name for name in known if len(found) <= LONGEST]
    plain = _plain(found)
    for name in names:
        if _plain(name) == plain and plain:
            return name
    words = set(re.split(r"[\W_]+", found.lower()))
    holding = [n for n in names if len(plain) >= 4 and (n.startswith(found) or words <= set(re.split(r"[\W_]+", n)))]
    if len(holding) == 1:
        return holding[0]
    limit = max(1, len(plain) // 4) if len(plain) >= 3 else 0
    near = [
        (distance, name)
        for name in names
        if re.sub(r"\D", "", name) == re.sub(r"\D", "", found)
        and (distance := _edits(plain, _plain(name))) <= limit
        and 3 * distance <= len(name)
    ]
    return min(near)[1] if near else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _edits(a: str, b: str) -> int:
    """Letters to insert, delete, replace or swap with their neighbour to turn a into b (optimal string alignment)."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row = [i]
        for j, y in enumerate(b, start=1):
            best = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, before[j - 2] + 1)
            row.append(best)
        before, last = last, row
    return last[-1]
