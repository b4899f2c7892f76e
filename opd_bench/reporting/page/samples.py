"""What a student wrote to a few problems, before and after: some that say more than others."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from opd_bench.reporting.files import read_anchor_responses, read_responses
from opd_bench.reporting.page.markup import Markup, tag
from opd_bench.reporting.record import Record, RecordError

SHOWN = 3
LONGEST = 1200
"""Characters of a text that are shown."""
WANTED = ((False, True), (True, False), (False, True), (False, False), (True, True))
"""Whether the greedy answer is right before and after, in the order that problems are looked for."""
KINDS = {
    (False, True): "Wrong before, right after",
    (True, False): "Right before, wrong after",
    (False, False): "Wrong before and after",
    (True, True): "Right before and after",
}
Line = Mapping[str, Any]


class Pair(NamedTuple):
    """One problem with its responses of both times, the greedy one first."""

    before: Line
    after: Line

    @property
    def kind(self) -> tuple[bool, bool]:
        """Whether the greedy answer is right before and after."""
        return bool(self.before["responses"][0]["correct"]), bool(self.after["responses"][0]["correct"])


def not_kept(runs: Sequence[Record]) -> Markup:
    """Nothing: a page that is committed says nothing that is not in its records."""
    return Markup()


def samples(runs: Sequence[Record]) -> Markup:
    """Of the first run that finished."""
    heading = tag("h5", "What its student wrote")
    return tag("div", heading, _samples(runs))


def _samples(runs: Sequence[Record]) -> Markup:
    run = next((run for run in runs if run["status"] == "finished"), None)
    if run is None:
        return _quiet("No run has finished.")
    try:
        chosen = _chosen(_pairs(run))
        shown = [_problem(pair) for pair in chosen]
    except (RecordError, LookupError, TypeError, AttributeError, ValueError):
        return _quiet("The responses aren't beside the record.")
    return tag("div", _quiet(f"From seed {run['seed']}."), *shown, class_="samples")


def _pairs(run: Record) -> list[Pair]:
    before = {(line["task"], line["id"]): line for line in read_anchor_responses(run, "before")}
    both = ((before.get((line["task"], line["id"])), line) for line in read_responses(run))
    return [Pair(old, new) for old, new in both if old is not None]


def _chosen(pairs: Iterable[Pair]) -> list[Pair]:
    """The first of each kind that is wanted, and then the first of what there is."""
    by_kind: dict[tuple[bool, bool], list[Pair]] = {}
    for pair in pairs:
        by_kind.setdefault(pair.kind, []).append(pair)
    found: list[Pair] = []
    for kind in (*WANTED, *(kind for kind in KINDS for _ in range(SHOWN))):
        if by_kind.get(kind) and len(found) < SHOWN:
            found.append(by_kind[kind].pop(0))
    return sorted(found, key=lambda pair: list(KINDS).index(pair.kind))


def _problem(pair: Pair) -> Markup:
    kind = tag("h5", KINDS[pair.kind])
    asked = tag("p", _short(pair.after["prompt"]), class_="prompt")
    wanted = tag("p", "Right answer: ", tag("b", _short(pair.after["answer"])), class_="wanted")
    columns = [_responses(when, line) for when, line in (("Before", pair.before), ("After", pair.after))]
    return tag("article", kind, asked, wanted, tag("div", *columns, class_="sides"), class_="sample")


def _responses(when: str, line: Line) -> Markup:
    named = zip(("greedy", "sampled"), line["responses"], strict=False)
    return tag("div", *(_response(f"{when}, {how}", one) for how, one in named), class_="side")


def _response(title: str, response: Line) -> Markup:
    right = bool(response["correct"])
    verdict = tag("span", "✓ right" if right else "✗ wrong", class_="verdict right" if right else "verdict wrong")
    cut = "" if response.get("finished", True) else tag("span", "cut off", class_="tag")
    head = tag("p", title, " ", verdict, " ", cut, class_="how")
    return tag("div", head, tag("p", _short(response["text"]) or "(nothing)", class_="wrote"))


def _short(value: Any) -> str:
    words = str(value)
    more = len(words) - LONGEST
    return words if more <= 0 else f"{words[:LONGEST]} … ({more:,} characters more)"


def _quiet(words: str) -> Markup:
    return tag("p", words, class_="quiet")
