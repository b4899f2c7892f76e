"""dialogsum: what was said in a dialogue, in a sentence or two.

    #Person1#: You are late , Tom .                  Tom is late because his bus broke down.
    #Person2#: My bus broke down .                   rouge1 0.67, rouge2 0.31, rougeL 0.67: correct
                                                     (reference: Tom's late because of his bus.)

ROUGE-1, -2 and -L are F1 with stemming, the mean over all references of a dialogue: three in testing, one elsewhere.
On the Hub every reference is a row of its own, and figures over its rows are this mean. That ROUGE-L of at least `bar`
is `correct` is this project's convention; there is no standard. With a `judge`, `correct` is to win against the first
reference, or against a rival's summary, and ROUGE is reported beside it. A summary that was cut off is judged as it is.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any

from opd_bench.settings import Share
from opd_bench.tasks.base import Problem, Verdict
from opd_bench.tasks.dataset import Dataset, Place, Row, text
from opd_bench.tasks.judge import Judge

KINDS = ("rouge1", "rouge2", "rougeL")
SUMMARIES = ("summary", "summary1", "summary2", "summary3")


@dataclass(kw_only=True, eq=False)
class DialogSum(Dataset):
    """Its answers are JSON: a dialogue's name and its references."""

    bar: Share  # ROUGE-L from which a summary is called correct, without a judge
    judge: Mapping[str, Any] | None  # fields of opd_bench.tasks.judge.Judge; null: nothing is sent anywhere

    name = "dialogsum"
    version = "1"
    places = MappingProxyType(
        {
            "train": Place("dialogsum/train.jsonl", "train"),
            "validation": Place("dialogsum/dev.jsonl", "validation"),
            "test": Place("dialogsum/test.jsonl", "test"),
        }
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.held_out:
            raise ValueError(f"DialogSum.held_out must be 0, for it has validation problems, got {self.held_out}")
        _ = self._judge  # a setting that makes no sense is refused at once

    def read(self, row: Row) -> Problem:
        """A dialogue and all summaries that are in its row."""
        name = re.sub(r"^(test_\d+)_\d+$", r"\1", text(row, "fname" if "fname" in row else "id"))
        references = [text(row, field) for field in SUMMARIES if field in row]
        if not references:
            raise ValueError("there is no summary")
        return _problem(name, text(row, "dialogue"), references)

    def verdict(self, problem: Problem, response: str, finished: bool) -> Verdict:
        """ROUGE and, with a judge, who wins; an empty summary has lost."""
        summary, known = response.strip(), json.loads(problem.answer)
        scores = rouge(summary, known["references"])
        correct = summary != "" and scores["rougeL"] >= self.bar
        if self._judge:
            rival = self._judge.rival_of(known["name"], known["references"][0])
            scores["win"] = self._judge.win(problem.prompt, summary, rival) if summary else 0.0
            correct = scores["win"] == 1
        return Verdict(correct=correct, formatted=summary != "", answer=summary, scores=scores)

    def joined(self, same: Sequence[Problem]) -> Problem:
        """All summaries of a dialogue."""
        known = [json.loads(problem.answer) for problem in same]
        references = [reference for one in known for reference in one["references"]]
        return _problem(known[0]["name"], same[0].prompt, references)

    @cached_property
    def _judge(self) -> Judge | None:
        try:
            return None if self.judge is None else Judge(**self.judge)
        except TypeError as error:
            raise ValueError(f"DialogSum.judge: {error}") from error


def rouge(summary: str, references: Sequence[str]) -> dict[str, float]:
    """F1 of each kind, the mean over the references."""
    found = [_scorer().score(reference, summary) for reference in references]
    return {kind: sum(one[kind].fmeasure for one in found) / len(found) for kind in KINDS}


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # for this task alone

    return RougeScorer(KINDS, use_stemmer=True)


def _problem(name: str, dialogue: str, references: Sequence[str]) -> Problem:
    return Problem(dialogue, json.dumps({"name": name, "references": references}, ensure_ascii=False), references[0])
