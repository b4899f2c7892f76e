"""A run's record: one JSON file, written whole, that knows if it was changed."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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


class RecordError(RuntimeError):
    """A record that can't be written or read: which, why, and what to do."""


def write_record(folder: Path, content: Mapping[str, Any]) -> Path:
    """`folder`/record.json, whole or not at all: written beside its place, to disk, and moved there."""
    record = _plain({**content, "schema": SCHEMA, "created": datetime.now(UTC).isoformat(timespec="seconds")})
    record["id"] = _digest(record)
    path, unfinished = folder / "record.json", folder / "record.json.part"
    try:
        with unfinished.open("w") as file:
            json.dump(record, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise RecordError(
            f"{path} can't be written: {error.strerror or error}. Free some space or choose results=FOLDER."
        ) from error
    return path


def read_record(path: Path) -> Record:
    """A record that is whole and as it was written."""
    try:
        record: Record = json.loads(path.read_text(), parse_constant=_refuse)
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: not a record: {error}") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise RecordError(f"{path}: not a record of schema {SCHEMA}")
    if missing := [key for key in KEYS if key not in record]:
        raise RecordError(f"{path}: lacks {', '.join(missing)}")
    if record["id"] != _digest(record):
        raise RecordError(f"{path}: changed after it was written; run the command again to make it anew")
    return record


def find_records(folders: Iterable[Path]) -> tuple[list[Record], list[str]]:
    """All records below, and what is wrong with the files that are none."""
    records, complaints = [], []
    for path in sorted(path for folder in folders for path in folder.rglob("record.json")):
        try:
            records.append(read_record(path))
        except RecordError as error:
            complaints.append(str(error))
    return records, complaints


def outcome(record: Record) -> Record:
    """What must be the same whenever the same command runs."""
    return {key: value for key, value in record.items() if key not in NOT_THE_OUTCOME}


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


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")
