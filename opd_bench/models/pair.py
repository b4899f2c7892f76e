"""Student and teacher together: what they must agree on is looked at before anything runs."""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opd_bench.configs import made
from opd_bench.models.network import Network, frozen, right_aligned, rows_of_head
from opd_bench.models.reading import StudentReading, TeacherReading
from opd_bench.models.words import Rendering, Words

SHOWN = 3
"""Ids that a complaint names."""
SAMPLE = "What is 12 + 7.5?\n\n\tÇa fait 19,5 — 答案是 $\\frac{39}{2}$.  #### 19.5"
APART = {torch.float32: 1e-3, torch.float64: 1e-6}
"""How far logits of a model may be from themselves, in units of the largest."""
COARSE, COARSEST = 0.05, 0.2
"""Of other types, and of quantised models, whose rounding depends on the rest of a batch."""


class Side(NamedTuple):
    """One of the two, by its name, with its tokenizer."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def ends(self) -> set[int]:
        """All that its own settings say ends a response."""
        settings = (self.tokenizer, self.model.generation_config, self.model.config)
        given = [getattr(each, "eos_token_id", None) for each in settings]
        return {one for ids in given if ids is not None for one in ([ids] if isinstance(ids, int) else ids)}


class Pair(NamedTuple):
    """The two models as networks over the same tokens, and the student's words for both."""

    student: Network
    teacher: Network
    words: Words
    agreed: dict[str, Any]  # for a record


class Readers(NamedTuple):
    """How the student's and the teacher's models are read, and how both read questions."""

    student: StudentReading
    teacher: TeacherReading
    rendering: Rendering

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Readers":
        """As a configuration has them."""
        return cls(*(made(config[part]) for part in ("student", "teacher", "prompts")))

    def pair(self, student: str, teacher: str, teacher_scale: float, device: torch.device) -> Pair:
        """Both models by name, the student's weights as they are, the teacher's frozen."""
        mine = Side(student, self.student.model(student), self.student.tokenizer(student))
        theirs = Side(teacher, frozen(self.teacher.teacher(teacher, device)), self.teacher.tokenizer(teacher))
        found = paired(mine, theirs, self.rendering, teacher_scale)
        rests = device if self.teacher.rests_on_cpu else None
        return found._replace(teacher=found.teacher._replace(rests_from=rests))


def paired(student: Side, teacher: Side, rendering: Rendering, teacher_scale: float) -> Pair:
    """What is made of two models that agree; a ValueError says what they differ in."""
    shared = _same_tokens(student, teacher)
    width = min(shared, *(rows_of_head(side.model) for side in (student, teacher)))
    ends = _ends(student, teacher, rendering, width)
    rendering.check(student.tokenizer, student.name)
    networks = [network_of(side, width) for side in (student, teacher)]
    words = Words(student.tokenizer, rendering, ends)
    if (last := int(words.prompt(SAMPLE)[-1])) in ends:
        raise ValueError(
            f"the tokenizer of {student.name!r} ends prompts with {_shown(student, [last])}, which ends responses"
        )
    told = {
        "vocabulary": {"shared": width, "student": rows_of_head(student.model), "teacher": rows_of_head(teacher.model)},
        "end": [student.tokenizer.convert_ids_to_tokens(one) for one in ends],
        "tokenizers": [_digest(sorted(side.tokenizer.get_vocab().items())) for side in (student, teacher)],
        "templates": [_digest(side.tokenizer.chat_template or "") for side in (student, teacher)],
    }
    return Pair(networks[0], networks[1]._replace(logit_scale=teacher_scale), words, told)


def _same_tokens(student: Side, teacher: Side) -> int:
    """How many ids both have, which must stand for the same strings, and text must be cut up in the same way."""
    shared = min(len(student.tokenizer), len(teacher.tokenizer))
    mine, theirs = (side.tokenizer.convert_ids_to_tokens(list(range(shared))) for side in (student, teacher))
    wrong = [one for one, pair in enumerate(zip(mine, theirs, strict=True)) if pair[0] != pair[1]]
    names = f"student {student.name!r} and teacher {teacher.name!r}"
    if wrong:
        shown = ", ".join(f"{one} is {mine[one]!r} and {theirs[one]!r}" for one in wrong[:SHOWN])
        raise ValueError(
            f"{names} have different tokenizers: {len(wrong):,} of {shared:,} ids stand for other strings, {shown}. "
            "Here a student learns token by token, from a teacher with the same tokens"
        )
    cut = [side.tokenizer(SAMPLE, add_special_tokens=False)["input_ids"] for side in (student, teacher)]
    if cut[0] != cut[1]:
        raise ValueError(f"{names} have the same tokens and cut the same text up differently: {cut[0]} and {cut[1]}")
    return shared


def _ends(student: Side, teacher: Side, rendering: Rendering, width: int) -> list[int]:
    """What ends a response, the tokenizer's own first: as asked for, or as both models say."""
    if rendering.end is not None:
        return [_id(student, token, width) for token in rendering.end.split()]
    if student.ends != teacher.ends:
        raise ValueError(
            f"student {student.name!r} ends a response with {_shown(student, student.ends)}, teacher {teacher.name!r} "
            f"with {_shown(teacher, teacher.ends)}: a teacher finds another end absurd. Say which ones are meant, as "
            f"in prompts.end={_shown(teacher, teacher.ends or student.ends)!r}"
        )
    if not student.ends:
        raise ValueError(f"neither {student.name!r} nor its teacher says what ends a response; prompts.end must")
    own = student.tokenizer.eos_token_id
    return sorted(student.ends, key=lambda one: (one != own, one))


def _id(side: Side, token: str, width: int) -> int:
    found: Any = side.tokenizer.get_vocab().get(token)
    if found is None or found >= width:
        raise ValueError(f"prompts.end must name tokens that both models have, got {token!r}")
    return int(found)


def _shown(side: Side, ids: Iterable[int]) -> str:
    return " ".join(side.tokenizer.convert_ids_to_tokens(sorted(ids))) or "nothing"


def network_of(side: Side, width: int) -> Network:
    """Its first `width` tokens, split into trunk and head if these say what the model says, else whole."""
    network = Network(side.model, width=width if width < rows_of_head(side.model) else None)
    ids, mask = _two_rows(width)
    ids, mask = ids.to(side.model.device), mask.to(side.model.device)
    was_training = side.model.training
    side.model.eval()
    try:
        with torch.no_grad():
            return _checked(network, side.name, ids, mask)
    finally:
        side.model.train(was_training)


def _checked(network: Network, name: str, ids: Tensor, mask: Tensor) -> Network:
    whole = network._replace(is_split=False)
    try:
        said = whole.logits(ids, mask)[mask]
        alone = torch.cat(
            [
                network.model(row[own][None]).logits[0, :, : network.vocabulary]
                for row, own in zip(ids, mask, strict=True)
            ]
        )
    except TypeError as error:
        raise ValueError(f"the model {name!r} can't be run on a batch of tokens: {error}") from error
    near = COARSEST if getattr(network.model, "is_quantized", False) else APART.get(said.dtype, COARSE)
    if _apart(said, alone) > near:
        raise ValueError(f"the model {name!r} says something else when its row is padded: batches of it would be wrong")
    try:
        parts = network.logits(ids, mask)[mask]
    except (TypeError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}"
    else:
        if _apart(parts, said) <= near:
            return network
        reason = "its last states times its output layer are not its logits"
    warnings.warn(
        f"the model {name!r} is run whole, with all logits of a micro-batch in memory at once: {reason}", stacklevel=2
    )
    return whole


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max() / other.float().abs().max().clamp_min(1e-6))


def _two_rows(width: int) -> tuple[Tensor, Tensor]:
    """Two short sequences, one of them padded on the left."""
    rows = [torch.arange(length) * 7919 % width for length in (7, 4)]
    return right_aligned(rows)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
