"""Some problems with what the student said before and after, as a page of Markdown."""

from collections.abc import Mapping
from typing import Any

from opd_bench.reporting.files import RESPONSES, read_anchor_responses, read_responses
from opd_bench.reporting.record import Record, RecordError


def samples(record: Record, count: int) -> str:
    """The first `count` problems and the greedy response to each, from the files that are kept beside the record."""
    before = _before(record) if record["evaluation"]["before"] else []
    after = read_responses(record) if RESPONSES in record["files"] else []
    said_then = {"before": before, "after": after}
    judged = {when: lines for when, lines in said_then.items() if lines}
    number = min((len(lines) for lines in judged.values()), default=0)
    rows = [{when: lines[place] for when, lines in judged.items()} for place in range(min(number, count))]
    return "\n\n".join(_page(place, row) for place, row in enumerate(rows, 1))


def _before(record: Record) -> list[dict[str, Any]]:
    """Nothing where they were removed since: it is kept once for many runs, and none of them needs it to be whole."""
    try:
        return read_anchor_responses(record, "before")
    except RecordError:
        return []


def verbatim(text: str) -> str:
    """A code block: behind four spaces nothing is Markdown, and nothing is HTML."""
    lines = text.splitlines() if text.strip() else ["(nothing)"]
    return "\n".join(f"    {line}" for line in lines)


def said(response: Mapping[str, Any]) -> str:
    """What became of a response, in two words at most."""
    if response["correct"]:
        return "solved"
    if not response["finished"]:
        return "cut off"
    return "wrong" if response["formatted"] else "no answer"


def _page(place: int, row: Mapping[str, Mapping[str, Any]]) -> str:
    problem = next(iter(row.values()))
    parts = [f"### Problem {place}", verbatim(problem["prompt"]), "**The answer**", verbatim(problem["answer"])]
    for when, line in row.items():
        greedy = line["responses"][0]
        parts += [f"**{when.capitalize()}: {said(greedy)}**", verbatim(greedy["text"])]
    return "\n\n".join(parts)
