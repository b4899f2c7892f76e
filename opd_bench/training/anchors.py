"""The models that no method trained, the student before and the teacher: judged once for all runs of a protocol."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from opd_bench.reporting.files import RESPONSES, digests
from opd_bench.reporting.record import ANCHOR, RecordError, read_record, write_record, write_whole

Figures = dict[str, dict[str, Any]]
"""Of every task."""


class Anchors(NamedTuple):
    """Where they are kept, under which names, and what their records say beside the figures."""

    folder: Path
    names: Mapping[str, str]  # of "before" and "teacher"
    content: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]

    def figures(self, which: str, judged: Callable[[], tuple[Figures, bytes]]) -> Figures:
        """As judged by whichever run came first; what can't be read is judged again."""
        place = self.folder / self.names[which]
        try:
            found: Figures = read_record(place / ANCHOR.file, ANCHOR)["evaluation"]
            return found
        except RecordError:
            figures, responses = judged()
        place.mkdir(parents=True, exist_ok=True)
        files = {RESPONSES: responses}
        write_whole(place / RESPONSES, responses)
        own = {"model": self.models[which], "evaluation": figures, "files": digests(files)}
        write_record(place, {"status": "finished", "reason": "", **self.content, **own}, ANCHOR)
        return figures
