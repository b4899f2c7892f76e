"""Some problems with what the student said before and after, as a page of Markdown."""

import gzip
import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from opd_bench.tasks.base import Verdict
from opd_bench.training.data import Problems


def samples(problems: Problems, folder: Path, evaluation: Mapping[str, Any], count: int) -> str:
    """The first `count` problems and the greedy response to each, of the files that `Judge` has left in `folder`.

    What `evaluation` has no figures of was not judged in this run, whatever an earlier try has left.
    """
    times = [when for when in ("before", "after") if evaluation[when]]
    greedy = {when: _greedy(folder / f"responses-{when}.jsonl.gz", count) for when in times}
    return "\n\n".join(
        _page(problems, number, {when: rows[number] for when, rows in greedy.items()})
        for number in range(min((len(rows) for rows in greedy.values()), default=0))
    )


def verbatim(text: str) -> str:
    """A code block: behind four spaces nothing is Markdown, and nothing is HTML."""
    lines = text.splitlines() if text.strip() else ["(nothing)"]
    return "\n".join(f"    {line}" for line in lines)


def said(verdict: Verdict, finished: bool) -> str:
    """What became of a response, in two words at most."""
    if verdict.correct:
        return "solved"
    if not finished:
        return "cut off"
    return "wrong" if verdict.formatted else "no answer"


def _page(problems: Problems, number: int, responses: Mapping[str, Mapping[str, Any]]) -> str:
    problem = problems.at(number)
    parts = [f"### Problem {number + 1}", verbatim(problem.prompt), "**The answer**", verbatim(problem.answer)]
    for when, response in responses.items():
        text, finished = response["text"], response["finished"]
        verdict = said(problems.task.verdict(problem, text, finished), finished)
        parts += [f"**{when.capitalize()}: {verdict}**", verbatim(text)]
    return "\n\n".join(parts)


def _greedy(path: Path, count: int) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["responses"][0] for line in islice(file, count)]
