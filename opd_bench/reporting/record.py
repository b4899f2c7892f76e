"""A run's record: one JSON file, written whole, that knows if it was changed."""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

from opd_bench.reporting.schemas import from_schema_1
from opd_bench.reporting.shape import misshapen

Record = dict[str, Any]
STATUSES = ("finished", "nan", "diverged", "out of memory", "timeout", "killed", "crash")
"""What may become of a run. All but the first are failures, and have a reason."""
HALVES = re.compile(r"\\ud[89a-f]", re.IGNORECASE)
"""Half a character, which JSON may have and no file can."""
LONGEST = 30
"""Digits of a whole number."""
REPRODUCED = "reproduced"
APART = (REPRODUCED, "ablations")
"""Folders whose records are not to be ranked beside others: official runs made again, and sweeps over a field."""
NOT_THE_OUTCOME = ("id", "created", "timing", "environment", "folder", "same_as")


class Kind(NamedTuple):
    """What a record is of: its file's name, what it must have, and how that became what it is."""

    file: str
    schema: int
    keys: tuple[str, ...]
    upgrades: Mapping[int, Callable[[Record], Record]] = MappingProxyType({})  # from an older schema to the next


ALWAYS = ("status", "reason", "protocol", "config", "environment", "timing", "schema", "created", "id")
RUN = Kind(
    "record.json",
    2,
    (*ALWAYS, *"method seed start models tasks budget training evaluation files anchors supersedes".split()),
    MappingProxyType({1: from_schema_1}),
)
PROBE = Kind("probe.json", 1, (*ALWAYS, "checkpoint", "seed", "probe", "methods"))
ANCHOR = Kind("anchor.json", 1, (*ALWAYS, "model", "tasks", "evaluation", "files"))


class RecordError(RuntimeError):
    """A record that can't be written or read: which, why, and what to do."""


def write_record(folder: Path, content: Mapping[str, Any], kind: Kind = RUN) -> Path:
    """The kind's file in `folder`, with schema, creation time and id = 16 digits of sha256(everything else)."""
    path = folder / kind.file
    record = _plain({**content, "schema": kind.schema, "created": datetime.now(UTC).isoformat(timespec="microseconds")})
    record["id"] = _digest(record)
    _complete(path, record, kind)
    try:
        write_whole(path, json.dumps(record, indent=1, allow_nan=False))
    except OSError as error:
        raise RecordError(
            f"{path} can't be written: {error.strerror or error}. Free some space or choose results=FOLDER."
        ) from error
    return path


def write_whole(path: Path, content: str | bytes) -> None:
    """The file has all of `content` or is what it was: written beside its place, to disk, and moved there."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")  # two processes may write the same file
    try:
        with unfinished.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        with suppress(OSError):  # where nothing could be begun there is nothing to remove
            unfinished.unlink()
        raise
    _settle(path.parent)


def read_record(path: Path, kind: Kind = RUN) -> Record:
    """A record that is whole and as it was written; one of an older schema is brought up to the present one."""
    try:
        text = path.read_text(encoding="utf-8")
        record: Record = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_whole)
        if HALVES.search(text):
            json.dumps(record, ensure_ascii=False).encode()
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not a record: {error}") from error
    schemas = (*kind.upgrades, kind.schema)
    if not isinstance(record, dict) or record.get("schema") not in schemas:
        raise RecordError(f"{path}: not a record of schema {' or '.join(map(str, schemas))}")
    if "id" not in record or record["id"] != _digest(record):
        raise RecordError(f"{path}: changed after it was written; again=true makes it anew")
    try:
        while record["schema"] < kind.schema:
            record = kind.upgrades[record["schema"]](record)
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path}: lacks what schema {record['schema']} has: {error!r}") from error
    _complete(path, record, kind)
    return record


def find_records(folders: Iterable[Path]) -> tuple[list[Record], list[str]]:
    """All records below with their `folder`, and what is wrong with the files that are none.

    Folders may lie in one another.
    """
    records, complaints = [], []
    found = {path.resolve(): path for folder in folders for path in record_files(folder)}
    for path in sorted(found.values()):
        try:
            records.append(read_record(path) | {"folder": str(path.parent)})
        except RecordError as error:
            complaints.append(str(error))
    return records, complaints


def record_files(folder: Path) -> list[Path]:
    """All below; what is in a folder that stands apart is found there alone."""
    return [path for path in folder.rglob(RUN.file) if not {*APART} & {*path.relative_to(folder).parts}]


def standing(records: Iterable[Record]) -> list[Record]:
    """Those that no other record supersedes."""
    known = list(records)
    superseded = {record["supersedes"] for record in known}
    return [record for record in known if record["id"] not in superseded]


def outcome(record: Record) -> Record:
    """What must be the same whenever the same command runs."""
    return {key: value for key, value in record.items() if key not in NOT_THE_OUTCOME}


def short_digest(value: Any) -> str:
    """Six digits that stand for settings in a folder's name."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def folder_name(text: str) -> str:
    """A name that is safe and readable, whatever a record says, and another one for another text."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', text).strip('-.')[:60]}-{short_digest(text)}"


def _complete(path: Path, record: Mapping[str, Any], kind: Kind) -> None:
    if missing := [key for key in kind.keys if key not in record]:
        raise RecordError(f"{path}: lacks {', '.join(missing)}")
    if kind is RUN and (wrong := misshapen({"id": "", "created": "", **record})):
        raise RecordError(f"{path}: {wrong}")
    if kind is RUN and record["status"] not in STATUSES:
        raise RecordError(f"{path}: status must be one of {', '.join(STATUSES)}, got {record['status']!r}")


def _settle(folder: Path) -> None:
    """The move itself to disk, for the case of a power cut; the file's content is there already."""
    with suppress(OSError):  # some network file systems can't, and the file is in its place
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _digest(record: Mapping[str, Any]) -> str:
    text = json.dumps({key: value for key, value in record.items() if key != "id"}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """JSON has no infinity and no NaN: they become words."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _whole(digits: str) -> int:
    """Python has no largest number, and all that counts with it has."""
    if len(digits) > LONGEST:
        raise ValueError(f"{digits[:LONGEST]}… is too large")
    return int(digits)


def _finite(digits: str) -> float:
    """Python reads 1e999 as infinity, which no record has."""
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is too large")
    return value
