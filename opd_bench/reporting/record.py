"""A run's record: one JSON file, written whole, that knows if it was changed."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

Record = dict[str, Any]
SCHEMA = 1
KEYS: tuple[str, ...] = (
    "status",
    "reason",
    "protocol",
    "method",
    "seed",
    "start",
    "models",
    "budget",
    "training",
    "evaluation",
)
KEYS += ("config", "environment", "timing", "schema", "created", "id")
NOT_THE_OUTCOME = ("id", "created", "timing", "environment")


class Kind(NamedTuple):
    """What a record is of: its file's name and what it must have."""

    file: str
    keys: tuple[str, ...]


RUN = Kind("record.json", KEYS)
PROBE = Kind(
    "probe.json",
    (*"status reason protocol checkpoint seed probe methods config environment timing schema created id".split(),),
)


class RecordError(RuntimeError):
    """A record that can't be written or read: which, why, and what to do."""


def write_record(folder: Path, content: Mapping[str, Any], kind: Kind = RUN) -> Path:
    """The kind's file in `folder`, with schema, creation time and id = 16 digits of sha256(everything else)."""
    path = folder / kind.file
    record = _plain({**content, "schema": SCHEMA, "created": datetime.now(UTC).isoformat(timespec="microseconds")})
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
    unfinished = path.with_name(f"{path.name}.part")
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
    """A record that is whole and as it was written."""
    try:
        record: Record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse, parse_float=_finite)
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not a record: {error}") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise RecordError(f"{path}: not a record of schema {SCHEMA}")
    _complete(path, record, kind)
    if record["id"] != _digest(record):
        raise RecordError(f"{path}: changed after it was written; again=true makes it anew")
    return record


def find_records(folders: Iterable[Path]) -> tuple[list[Record], list[str]]:
    """All records below, and what is wrong with the files that are none. Folders may lie in one another."""
    records, complaints = [], []
    found = {path.resolve(): path for folder in folders for path in folder.rglob(RUN.file)}
    for path in sorted(found.values()):
        try:
            records.append(read_record(path))
        except RecordError as error:
            complaints.append(str(error))
    return records, complaints


def outcome(record: Record) -> Record:
    """What must be the same whenever the same command runs."""
    return {key: value for key, value in record.items() if key not in NOT_THE_OUTCOME}


def _complete(path: Path, record: Mapping[str, Any], kind: Kind) -> None:
    if missing := [key for key in kind.keys if key not in record]:
        raise RecordError(f"{path}: lacks {', '.join(missing)}")


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


def _finite(digits: str) -> float:
    """Python reads 1e999 as infinity, which no record has."""
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is too large")
    return value
