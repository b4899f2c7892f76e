"""Records of older schemas, brought up to the present one."""

from typing import Any


def from_schema_1(record: dict[str, Any]) -> dict[str, Any]:
    """One task, whose figures had no name; series within; fewer outcomes; no files, anchors or corrections."""
    task = record["protocol"].get("task") or record["protocol"]["name"].partition("-")[0]
    training = {key: value for key, value in record["training"].items() if key != "series"}
    judged = {when: {task: figures} if figures else {} for when, figures in record["evaluation"].items()}
    return record | {
        "schema": 2,
        "status": _outcome(record["status"], record["reason"]),
        "protocol": {"version": "0.1", **record["protocol"]},
        "training": training,
        "tasks": {task: {}},
        "evaluation": judged,
        "files": {},
        "anchors": {},
        "supersedes": None,
    }


def _outcome(status: str, reason: str) -> str:
    """The first schema had one word for what was not finite, and another for every other failure."""
    if status == "diverged" and " nan " in reason:
        return "nan"
    return "crash" if status == "failed" else status
