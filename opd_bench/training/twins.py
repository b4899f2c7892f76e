"""A run of another ruleset that is the same computation: its result is taken over, not computed again."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from opd_bench.reporting.protocol import folder_of, protocol_of
from opd_bench.reporting.record import RUN, Record, read_record, write_record, write_whole

if TYPE_CHECKING:
    from opd_bench.training.run import Run

TWINS = {"tuned": "fixed", "fixed": "tuned"}


def twin(run: "Run") -> Record | None:
    """The finished run that differs from this one in its ruleset alone, as a record of this one's ruleset."""
    if run.config["ruleset"] not in TWINS:
        return None
    config = {**run.config, "ruleset": TWINS[run.config["ruleset"]]}
    protocol = protocol_of(config, run.protocol["task"], run.protocol["task_version"], run.protocol["weights"])
    folder = Path(config["results"]) / folder_of(protocol, config)
    if not (folder / RUN.file).exists():
        return None
    found = read_record(folder / RUN.file)
    if found["status"] != "finished" or found["config"] != config:
        return None
    run.folder.mkdir(parents=True, exist_ok=True)
    _take_anchors(found, folder, run.folder)
    for name in found["files"]:
        if (folder / name).exists():  # responses may be kept as their digest alone
            write_whole(run.folder / name, (folder / name).read_bytes())
    same = found | {"protocol": run.protocol, "config": dict(run.config), "same_as": found["id"]}
    return read_record(write_record(run.folder, same))


def _take_anchors(found: Record, there: Path, here: Path) -> None:
    for name in found["anchors"].values():
        place = here.parents[1] / "anchors" / name
        if not place.exists():
            shutil.copytree(there.parents[1] / "anchors" / name, place)
