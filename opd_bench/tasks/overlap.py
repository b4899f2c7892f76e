"""How many test problems are among the training prompts, word for word or nearly.

Tom has 3 apples. How many ?   and   tom has 3 apples -- how many?                 exact
thirteen words in a row that both have                                            near
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

RUN = 13
"""Words in a row that two texts don't share by chance, as has been usual since GPT-3."""
EXAMPLES = 5
WORD = re.compile(r"[^\W_]+")


class Overlap(NamedTuple):
    """Counts of test problems, each at most once."""

    exact: int  # the same letters and digits in the same order, in whatever case
    near: int  # further ones: they share a run of words with a training prompt
    examples: list[tuple[int, int]]  # numbers of a training prompt and a test problem, from 0: exact ones first


def overlap(train: Iterable[str], test: Sequence[str]) -> Overlap:
    """Of bare questions: a fixed instruction that all prompts have would be a run that all share.

    A test problem of fewer words than a run can only be exact. Signs are not looked at: "2 + 3" is "2 - 3".
    """
    known = [WORD.findall(text.lower()) for text in test]
    whole, parts = _index(map(_whole, known)), _index(map(_runs, known))
    exact: dict[int, int] = {}
    near: dict[int, int] = {}
    for number, text in enumerate(train):
        words = WORD.findall(text.lower())
        _note(exact, whole, _whole(words), number)
        _note(near, parts, _runs(words), number)
    further = {place: number for place, number in near.items() if place not in exact}
    pairs = [(found[place], place) for found in (exact, further) for place in sorted(found)]
    return Overlap(len(exact), len(further), pairs[:EXAMPLES])


def _whole(words: Sequence[str]) -> list[tuple[str, ...]]:
    return [("".join(words),)] if words else []


def _runs(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return zip(*(islice(words, start, None) for start in range(RUN)), strict=False)


def _index(keys: Iterable[Iterable[tuple[str, ...]]]) -> dict[tuple[str, ...], set[int]]:
    """Which test problems have a key."""
    index: dict[tuple[str, ...], set[int]] = {}
    for place, own in enumerate(keys):
        for key in own:
            index.setdefault(key, set()).add(place)
    return index


def _note(
    found: dict[int, int], index: dict[tuple[str, ...], set[int]], keys: Iterable[tuple[str, ...]], number: int
) -> None:
    """The first training prompt that a test problem overlaps with."""
    for key in index.keys() & keys:
        for place in index[key]:
            found.setdefault(place, number)
