"""A teacher's answers, made once: kept in memory, and in files for whichever runs come after."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from opd_bench.reporting.record import write_whole
from opd_bench.tokens import Origin, Written

Key = str
"""What stands for a prompt: the hash of its ids."""


class Answer(NamedTuple):
    """One response."""

    token: Tensor  # [T]
    logp: Tensor  # [T]
    truncated: Tensor  # []


class Answers:
    """By prompt. All in `folder` are of one teacher, seed and limit; each file is named by the hash of its content.

    A file is a batch that some run has made, whole or not there. One that is not what its name says is told of, and its
    answers are made again.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self._known: dict[Key, Answer] = {}
        self._read: set[Path] = set()

    def missing(self, keys: Sequence[Key]) -> list[int]:
        """Which of these, each once, have no answer, though other runs may have written some in the meantime."""
        if self.folder and any(key not in self._known for key in keys):
            for path in sorted(set(self.folder.glob("*.safetensors")) - self._read):
                self._known |= _read(path)
                self._read.add(path)
        first = {key: number for number, key in reversed(list(enumerate(keys)))}
        return sorted(number for key, number in first.items() if key not in self._known)

    def add(self, keys: Sequence[Key], made: Written) -> None:
        """New ones."""
        rows = zip(made.token.cpu(), made.logp.cpu(), made.truncated.cpu(), made.length.tolist(), strict=True)
        new = [Answer(token[:length], logp[:length].float(), cut) for token, logp, cut, length in rows]
        self._known |= zip(keys, new, strict=True)
        if self.folder:
            content = _packed(keys, new)
            path = self.folder / f"{_digest(content)}.safetensors"
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
            self._read.add(path)

    def batch(self, keys: Sequence[Key], device: torch.device) -> Written:
        """These, right-padded."""
        found = [self._known[key] for key in keys]
        token = pad_sequence([one.token for one in found], batch_first=True)
        logp = pad_sequence([one.logp for one in found], batch_first=True)
        parts = (
            token.long(),
            torch.full_like(token, Origin.TEACHER, dtype=torch.long),
            logp,
            torch.tensor([len(one.token) for one in found]),
            torch.stack([one.truncated for one in found]),
        )
        return Written(*(part.to(device) for part in parts))


def key_of(ids: Tensor) -> Key:
    """Of a prompt's ids [P]."""
    return hashlib.sha256(ids.cpu().long().numpy().tobytes()).hexdigest()


def _packed(keys: Sequence[Key], answers: Sequence[Answer]) -> bytes:
    columns = {
        "token": torch.cat([one.token for one in answers]).int(),
        "logp": torch.cat([one.logp for one in answers]),
        "length": torch.tensor([len(one.token) for one in answers]),
        "truncated": torch.stack([one.truncated for one in answers]),
    }
    return save(columns, {"keys": json.dumps(list(keys))})


def _read(path: Path) -> dict[Key, Answer]:
    """Of one file; nothing of a damaged one."""
    try:
        content = path.read_bytes()
        if _digest(content) != path.stem:
            raise ValueError("its content is not what its name says")
        columns = load(content)
        keys = json.loads(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]["keys"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        warnings.warn(f"{path} is damaged, its answers are made again: {error}", stacklevel=2)
        return {}
    lengths = columns["length"].tolist()
    parts = (columns[name].split(lengths) for name in ("token", "logp"))
    return {key: Answer(*one) for key, *one in zip(keys, *parts, columns["truncated"], strict=True)}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
