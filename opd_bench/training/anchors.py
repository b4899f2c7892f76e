"""The models that no method trained, the student before and the teacher: judged once for all runs of a protocol."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from opd_bench.reporting.files import RESPONSES, write_with_files
from opd_bench.reporting.record import ANCHOR, RecordError, read_record
from opd_bench.training.ranks import from_first

Figures = dict[str, dict[str, Any]]
"""Of every task."""


class Anchors(NamedTuple):
    """Where they are kept, what their records say beside the figures, and which models "before" and "teacher" are."""

    folder: Path
    content: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]

    @property
    def names(self) -> dict[str, str]:
        """A folder's name for each, by model and weights."""
        return {which: f"{_safe(model['name'])}-{model['digest'][:6]}" for which, model in self.models.items()}

    def figures(self, which: str, judged: Callable[[], tuple[Figures, bytes]]) -> Figures:
        """As judged by whichever run came first; what can't be read is judged again, by all processes."""
        found = from_first(partial(self._kept, which))
        if found is None:
            found, responses = judged()
            from_first(partial(self._keep, which, found, responses))
        return found

    def _kept(self, which: str) -> Figures | None:
        try:
            found: Figures = read_record(self._place(which) / ANCHOR.file, ANCHOR)["evaluation"]
        except RecordError:
            return None
        return found

    def _keep(self, which: str, figures: Figures, responses: bytes) -> None:
        place = self._place(which)
        place.mkdir(parents=True, exist_ok=True)
        own = {"status": "finished", "reason": "", "model": self.models[which], "evaluation": figures}
        write_with_files(place, {**self.content, **own}, {RESPONSES: responses}, ANCHOR)

    def _place(self, which: str) -> Path:
        return self.folder / self.names[which]


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", Path(name).name)
