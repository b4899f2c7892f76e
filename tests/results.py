"""A folder of results as runs leave it: records, and the responses of the students before and after."""

from copy import deepcopy
from pathlib import Path
from typing import Any

from opd_bench.reporting.files import RESPONSES, digests, packed_responses
from opd_bench.reporting.leaderboard import Table, tables
from opd_bench.reporting.record import ANCHOR, find_records, write_record

TASK = {"version": "1", "problems": 3, "samples": 1, "temperature": 1.0, "limit": 40}
FORMULA = """Policy gradient with the K1 reward.

    r = log q(y) − log p(y)
    ℓ = −sg[r] log p(y),  y ~ p

Gradient flows through log p(y) alone.
It is one paragraph."""
CONTENT: dict[str, Any] = {
    "status": "finished",
    "reason": "",
    "protocol": {"name": "sums-easy", "version": "1.0", "digest": "abc123", "ruleset": "fixed"},
    "method": {
        "name": "opd",
        "title": "OPD",
        "paper": "Somebody, 2026",
        "provenance": "re-implemented from the paper",
        "deviations": ["one", "another"],
        "warning": "",
        "formula": FORMULA,
        "aim": "∇ of reverse kl",
        "estimator": "OPD",
        "settings": {"k": 8},
        "source": {"name": "Student"},
        "cost": {"student": "sampled", "teacher": "sampled"},
    },
    "seed": 0,
    "start": "a-student",
    "supersedes": None,
    "models": {"student": {"name": "a-student"}, "teacher": {"name": "a-teacher"}},
    "tasks": {"sums": TASK},
    "files": {},
    "anchors": {"before": "student-1", "teacher": "teacher-1"},
    "budget": {"steps": 60, "student_tokens": 27641.0, "teacher_tokens": 0.0},
    "training": {
        "auc": 0.4,
        "reverse_kl": {"first": 0.7, "last": 0.2},
        "gradient_norm": {"median": 2.0, "p99": 5.0, "max": 6.0, "spikes": 0},
        "gradient": {"relative_variance": 3.0, "bias_reverse_kl": 0.0, "cosine_reverse_kl": 1.0},
        "last": {"student_entropy": 0.2, "length": 28.0, "truncated": 0.0, "overlap": 0.4},
    },
    "evaluation": {"before": {"sums": {"sampled": 0.2}}, "after": {}, "teacher": {"sums": {"sampled": 0.98}}},
    "config": {"plan": {"steps": 60, "prompts": 16, "rollouts": 1, "learning_rate": 0.001, "clip": 1.0}},
    "environment": {"device": "a-machine", "opd-bench": "0.1.0", "commit": "0123456789ab"},
    "timing": {"seconds": {"total": 50.0}, "tokens_per_second": 800.0, "peak_memory_mib": 600.0},
}


def content(name: str = "opd", seed: int = 0, solved: float = 0.5, /, **changes: Any) -> dict[str, Any]:
    """What a run would hand over. What is changed in `method`, `protocol` or `training` is changed there alone."""
    found = deepcopy(CONTENT) | {"seed": seed}
    found["method"] |= {"name": name, "title": name.upper()}
    found["evaluation"]["after"] = {"sums": {"sampled": solved, "greedy": solved, "pass@4": 0.9, "truncated": 0.0}}
    for key, value in changes.items():
        inner = key in ("method", "protocol", "training")
        found[key] = found[key] | value if inner else value
    return found


def problem(number: int, right: bool, text: str = "2 + 2 = 4") -> dict[str, Any]:
    """A problem with a greedy response and a sampled one."""
    response = {"text": text, "finished": True, "length": 5, "correct": right, "formatted": True}
    asked = {"task": "sums", "id": str(number), "prompt": f"What is {number} ?", "answer": "4"}
    return asked | {"responses": [response, response]}


def results(folder: Path, *contents: dict[str, Any], wrote: str = "after") -> Path:
    """Each run in a folder of its own, with anchors beside; the first problem is learned and the third unlearned."""
    for content_ in contents:
        protocol, method = content_["protocol"]["digest"], len(list(folder.glob("*/*")))
        run = folder / protocol / f"method-{method}" / f"seed-{content_['seed']}"
        run.mkdir(parents=True)
        after = [problem(0, True, wrote), problem(1, False, wrote), problem(2, False, wrote)]
        files = {RESPONSES: packed_responses(after)} if content_["status"] == "finished" else {}
        _write(run, files)
        write_record(run, content_ | {"files": digests(files)})
        _anchor(folder / protocol / "anchors" / "student-1")
    return folder


def found(folder: Path) -> list[Table]:
    """Its tables."""
    return tables(find_records([folder])[0])


def _anchor(folder: Path) -> None:
    if folder.exists():
        return
    folder.mkdir(parents=True)
    files = {RESPONSES: packed_responses([problem(0, False, "before"), problem(1, False), problem(2, True)])}
    _write(folder, files)
    nothing = {key: {} for key in ("protocol", "config", "environment", "timing", "model", "tasks", "evaluation")}
    write_record(folder, {"status": "finished", "reason": "", **nothing, "files": digests(files)}, ANCHOR)


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)
