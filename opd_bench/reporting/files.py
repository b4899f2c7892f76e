"""What is kept beside a record: the series of every step, and every response that was judged."""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opd_bench.reporting.record import ANCHOR, RUN, Kind, Record, RecordError, read_record, write_record, write_whole

SERIES = "series.csv.gz"
RESPONSES = "responses.jsonl.gz"
Series = dict[str, NDArray[np.float64]]


def packed_series(columns: Mapping[str, Sequence[float | None]]) -> bytes:
    """One line a step, one column a figure, to nine digits; empty where a step has none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for values in zip(*columns.values(), strict=True):
        writer.writerow(["" if value is None else f"{value:.9g}" for value in values])
    return _packed(text.getvalue())


def packed_responses(lines: Iterable[Mapping[str, Any]]) -> bytes:
    """One line a problem: task, id, prompt, answer, and its responses, the greedy one first."""
    return _packed("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """What a record says of the files beside it."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}


def write_with_files(folder: Path, content: Mapping[str, Any], files: Mapping[str, bytes], kind: Kind = RUN) -> Record:
    """The files first, so that a record never names what is not there; then the record, as it reads again."""
    for name, packed in files.items():
        write_whole(folder / name, packed)
    return read_record(write_record(folder, {**content, "files": digests(files)}, kind), kind)


def read_series(record: Record) -> Series:
    """Every figure of a record that was found in a folder, one value a step, NaN where there is none."""
    if SERIES not in record["files"]:
        return _series_of_schema_1(record)
    header, *rows = csv.reader(io.StringIO(_unpacked(Path(record["folder"]), SERIES, record["files"])))
    columns = zip(*rows, strict=True) if rows else ([] for _ in header)
    return {name: _numbers(column) for name, column in zip(header, columns, strict=True)}


def read_responses(record: Record) -> list[dict[str, Any]]:
    """All that a trained student wrote in its last evaluation."""
    return list(_lines(Path(record["folder"]), record["files"]))


def read_anchor(record: Record, which: str) -> tuple[Record, list[dict[str, Any]]]:
    """The record and all responses of a run's untrained student ("before") or "teacher", kept once for a protocol."""
    name = record["anchors"].get(which, "")
    folder = Path(record["folder"]).parents[1] / "anchors" / name
    if not name or Path(name).name != name:  # a record may come from anyone, and leads nowhere else
        raise RecordError(f"{record['folder']}: no anchor {which!r}")
    anchor = read_record(folder / ANCHOR.file, ANCHOR)
    return anchor, list(_lines(folder, anchor["files"]))


def read_anchor_responses(record: Record, which: str) -> list[dict[str, Any]]:
    """All that the untrained student or the teacher of a run wrote."""
    return read_anchor(record, which)[1]


def _series_of_schema_1(record: Record) -> Series:
    """The first schema had them in the record itself."""
    raw = json.loads((Path(record["folder"]) / RUN.file).read_text(encoding="utf-8"))
    return {name: _numbers(values) for name, values in raw["training"].get("series", {}).items()}


def _numbers(values: Iterable[Any]) -> NDArray[np.float64]:
    return np.array([float("nan" if value in (None, "") else value) for value in values])


def _lines(folder: Path, known: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for line in _unpacked(folder, RESPONSES, known).split("\n"):  # and not at every separator that Unicode knows
        if line:
            yield json.loads(line)


def _packed(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)  # the same content is the same file


def _unpacked(folder: Path, name: str, known: Mapping[str, str]) -> str:
    """A file's text, if it is the one that the record was written with."""
    path = folder / name
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != known.get(name):
            raise RecordError(f"{path}: not the file that the record beside it was written with")
        return gzip.decompress(content).decode()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise RecordError(f"{path} can't be read: {error}") from error
