"""Bytes of one process on its device, item by item, in each phase of a run: at most, if every response is full length.

Of a student with hidden size H, n norms, q numbers of queries and I inner states in a layer, weights of w bytes and
computing in c bytes, a layer keeps for the way back, of every token:

    all weights learn:   H n (4 + w) + 2 H c + 5 q c + 4 I c, and 3 H c more where bfloat16 is computed from float32
    experts, k chosen:   2 H k c more
    LoRA:                4 H n + 5 H a + q (4c + a) + I (3c + a), a: what an addition reads in; 2 H a if shared
    eager attention:     heads · T (4 + c) more

With gradient checkpointing it keeps H w, and one layer at a time has the rest; the last norm keeps H (4 + w).
tests/test_estimate.py holds this to what autograd saves, within a factor of 1.5.
"""

from collections.abc import Iterator
from typing import NamedTuple

from opd_bench.chunks import slice_of
from opd_bench.forecast.ledger import Writing
from opd_bench.forecast.setup import Setup
from opd_bench.models.outline import Outline
from opd_bench.tokens import Origin

PHASES = ("rollout", "teacher", "student", "update", "evaluation")
"""Writing, the teacher's reading, forward and backward, the optimiser's step, judging."""
PACKED = {None: 0.0, "4bit": 0.5 + 4 / 64, "8bit": 1.0}
"""Bytes of a quantised number: nf4 has a float32 scale for every 64."""
COPIES = {0: 5.1, 1: 5.1, 2: 10.1}
"""Float32 tensors [slice, V] at once, by how many models a method reads in full; what is watched alone has 5."""
DECODING, READER, BENT = 9, 12, 24
"""Bytes of every row and token of the vocabulary, to draw one token: first reader, others, a cut law."""
BUCKET, LIVE = 200_000_000, 1_000_000_000
"""Numbers in a bucket of DeepSpeed's as Lightning sets it, and of whole weights that stage 3 keeps at once."""


class Item(NamedTuple):
    """Bytes of something, in the phases in which it is there."""

    name: str
    sizes: dict[str, float]


class Memory(NamedTuple):
    """Of one process."""

    items: list[Item]

    def total(self, phase: str) -> float:
        """All that is there."""
        return sum(item.sizes.get(phase, 0.0) for item in self.items)

    @property
    def worst(self) -> str:
        """The phase that needs most."""
        return max(PHASES, key=self.total)

    @property
    def peak(self) -> float:
        """What the device must have."""
        return self.total(self.worst)

    @property
    def largest(self) -> Item:
        """What takes most of the peak."""
        return max(self.items, key=lambda item: item.sizes.get(self.worst, 0.0))


def memory(setup: Setup) -> Memory:
    """Items that are there at all, in the order of a table."""
    found = (*_student(setup), *_teacher(setup), *_learning(setup), *_writing(setup))
    return Memory([item for item in found if any(item.sizes.values())])


class Bytes(NamedTuple):
    """Of a number, by what it is of."""

    weights: int  # of the student's frozen ones, or of all
    trained: int  # and of those that learn
    compute: int  # within a step; rollouts compute in the weights' own type
    teacher: int

    @classmethod
    def of(cls, setup: Setup) -> "Bytes":
        """An engine has one type for everything; without one, what computes in bfloat16 is cast on the way."""
        layout, student = setup.layout, setup.student
        half = layout.precision == "bf16-mixed"
        read = 2 if setup.student_reading.dtype == "bfloat16" else 4
        teacher = 2 if setup.teacher_reading.dtype == "bfloat16" else 4
        if layout.stage:
            engine = 2 if half else 4 if layout.stage == 3 else read
            return cls(engine, engine, engine, teacher)
        return cls(read, 4 if student.is_adapted else read, 2 if half else read, teacher)


def _everywhere(size: float) -> dict[str, float]:
    return dict.fromkeys(PHASES, size)


def _student(setup: Setup) -> Iterator[Item]:
    """What there is of the student between steps."""
    layout, student, size = setup.layout, setup.student, Bytes.of(setup)
    whole = (student.parameters - student.trained) * size.weights + student.trained * size.trained
    shared = layout.stage == 3
    kept = 0.0 if shared and layout.offload else whole / layout.processes if shared else whole
    yield Item("student's weights", _everywhere(kept))
    if shared:
        live = int(layout.zero.get("stage3_max_live_parameters", LIVE))
        yield Item("student's whole copy, which writes", _everywhere(whole))
        yield Item("weights gathered for a layer", {"student": min(student.parameters, live) * size.weights})
    yield from _optimiser(setup, student.trained * size.trained)


def _optimiser(setup: Setup, gradient: float) -> Iterator[Item]:
    """Gradients are whole in every process until the step's one reduction, under ZeRO too."""
    layout, trained = setup.layout, setup.student.trained
    part = 4.0 * trained / layout.processes
    yield Item("gradients", {"student": gradient, "update": gradient})
    if setup.noise and setup.pieces > 1:
        yield Item("gradients once more, for their noise", {"student": gradient})
    if layout.stage:
        bucket = int(layout.zero.get("reduce_bucket_size", BUCKET)) * Bytes.of(setup).trained
        held = _everywhere(bucket) if layout.stage == 3 else {"update": 2.0 * bucket}
        yield Item("AdamW's state and float32 weights", _everywhere(0.0 if layout.offload else 3 * part))
        yield Item("buckets", held)
        yield Item("on the way through AdamW", {"update": 0.0 if layout.offload else 2 * part})
        return
    yield Item("AdamW's state", _everywhere(2 * gradient))
    yield Item("buckets", _everywhere(gradient if layout.strategy == "ddp" else 0.0))
    yield Item("on the way through AdamW", {"update": gradient})


def teacher_weights(setup: Setup) -> float:
    """Bytes, wherever they are."""
    teacher, size = setup.teacher, Bytes.of(setup).teacher
    packed = setup.teacher_reading.quantised
    linear = teacher.linear if packed else 0
    return linear * PACKED[packed] + (teacher.parameters - linear) * size


def _teacher(setup: Setup) -> Iterator[Item]:
    """One that rests is there while it reads or writes; its head is always."""
    size = teacher_weights(setup)
    if not setup.teacher_reading.rests_on_cpu:
        yield Item("teacher's weights", _everywhere(size))
        return
    writes = any(Origin.TEACHER in writing.readers for writing in setup.asked.largest)
    yield Item("teacher's weights", {"rollout": size * writes, "teacher": size, "evaluation": size})
    head = setup.teacher.vocabulary * setup.teacher.hidden * Bytes.of(setup).teacher
    yield Item("teacher's head, which never rests", _everywhere(head))


def _learning(setup: Setup) -> Iterator[Item]:
    """What a step makes on its way."""
    size, student, teacher = Bytes.of(setup), setup.student, setup.teacher
    tokens = setup.rows * setup.length
    mine, theirs = tokens * student.hidden * size.weights, tokens * teacher.hidden * size.teacher
    scored = mine * (1 + setup.signals) + theirs
    both: dict[str, float] = {
        "teacher": theirs,
        "student": scored,
        "update": mine + theirs,
        "evaluation": mine + theirs,
    }
    yield Item("states of both", both)
    yield Item("a layer of the teacher", {"teacher": _passing(teacher, setup.micro_batch, setup.length, size.teacher)})
    yield Item("activations", {"student": activations(setup, setup.micro_batch, setup.length)})
    if size.compute < size.weights:
        casts = 2.0 * (student.linear + student.vocabulary * student.hidden)
        spread = student.layers if setup.layout.gradient_checkpointing and student.is_adapted else 1
        yield Item("weights in bfloat16", {"student": casts / spread})
    count = chunk(setup)
    logits = 2.0 * size.compute * count * student.vocabulary
    sliced = min(count, slice_of(student.vocabulary, "cuda")) * student.vocabulary * per_logit(setup)
    yield Item(f"logits of {count:,} tokens", {"student": logits + sliced})
    rows = setup.micro_batch * setup.plan.response_limit
    held = rows * (student.hidden * (size.weights + 8) + teacher.hidden * size.teacher)
    head = 8.0 * student.vocabulary * student.hidden if student.head_learns else 0.0
    yield Item("states that are scored, with gradient", {"student": held})
    yield Item("gradient of the head", {"student": head})


def chunk(setup: Setup) -> int:
    """Tokens whose logits are there at once."""
    most = setup.plan.tokens_at_once(setup.student.vocabulary, "cuda")
    return min(most, setup.micro_batch * setup.plan.response_limit)


def per_logit(setup: Setup) -> float:
    """Bytes of everything of the size [slice, V] beside the logits themselves, for every logit."""
    widened = 2 if Bytes.of(setup).compute == 2 else 0
    return 4.0 * (COPIES[sum(read == "full" for read in setup.cost)] + widened)


def activations(setup: Setup, rows: int, length: int) -> float:
    """What the student keeps for the way back, of rows of this length."""
    student, size, tokens = setup.student, Bytes.of(setup), rows * length
    layer = _adapted_layer(setup, size) if student.is_adapted else _plain_layer(student, size)
    layer += 2 * student.hidden * student.routed * size.compute
    layer += student.heads * length * (4 + size.compute) * (student.attention == "eager")
    last = student.hidden * (4 + size.weights)
    if setup.layout.gradient_checkpointing:
        return tokens * (student.layers * student.hidden * size.weights + layer + last)
    return tokens * (student.layers * layer + last)


def _plain_layer(student: Outline, size: Bytes) -> float:
    mixed = 3 * size.compute * (size.compute < size.weights)
    states = student.hidden * (student.norms * (4 + size.weights) + 2 * size.compute + mixed)
    return states + 5 * student.queries * size.compute + 4 * student.inner * size.compute


def _adapted_layer(setup: Setup, size: Bytes) -> float:
    student, compute, dropout = setup.student, size.compute, setup.student_reading.lora_dropout
    is_shared = size.trained == size.weights == compute and not dropout
    read = compute if setup.layout.precision == "bf16-mixed" else size.trained
    kept = read + bool(dropout)  # and which ones were dropped
    inputs = 2 * student.hidden * read if is_shared else 5 * student.hidden * kept
    attention = student.queries * (4 * compute + kept)
    return 4 * student.hidden * student.norms + inputs + attention + student.inner * (3 * compute + kept)


def _passing(model: Outline, rows: int, length: int, size: int) -> float:
    """A layer without a way back."""
    eager = model.heads * length * (4 + size) * (model.attention == "eager")
    return rows * length * ((3 * model.inner + 4 * model.hidden + 2 * model.queries) * size + eager)


def _writing(setup: Setup) -> Iterator[Item]:
    """While rollouts are written, and while answers are judged."""
    share = min(setup.evaluation.batch, max(-(-test.problems // setup.layout.processes) for test in setup.tests))
    judged = [Writing((who,), share, setup.prompt.tokens, setup.judged) for who in (Origin.STUDENT, Origin.TEACHER)]
    sampling = {"rollout": setup.plan.sampling.values(), "evaluation": [setup.evaluation.sampling]}
    phases = {"rollout": list(setup.asked.largest), "evaluation": judged}
    measures = {"keys and values": _cached, "a layer of who writes": _written, "logits of one token": _drawn}
    for name, measure in measures.items():
        yield Item(name, {phase: max((measure(setup, w) for w in own), default=0.0) for phase, own in phases.items()})
    bent = {name: any(law.top_p < 1 or law.top_k for law in laws) for name, laws in sampling.items()}
    rows = {name: max((writing.rows for writing in own), default=0) for name, own in phases.items()}
    yield Item("logits cut to a top", {n: BENT * setup.student.vocabulary * rows[n] * bent[n] for n in phases})


def _readers(setup: Setup, writing: Writing) -> Iterator[tuple[Outline, int]]:
    size = Bytes.of(setup)
    known = {Origin.STUDENT: (setup.student, size.weights), Origin.TEACHER: (setup.teacher, size.teacher)}
    return (known[reader] for reader in writing.readers)


def _cached(setup: Setup, writing: Writing) -> float:
    """Keys and values of all who read along, at the end."""
    return sum(writing.rows * model.cached(writing.length - 1) * size for model, size in _readers(setup, writing))


def _written(setup: Setup, writing: Writing) -> float:
    """Reading the prompts, or one token with a layer's keys and values repeated for every head and once copied."""
    prompt = max(_passing(model, writing.rows, writing.prompt, size) for model, size in _readers(setup, writing))
    wide = (writing.rows * writing.length * (2 * m.queries + m.keys) * size for m, size in _readers(setup, writing))
    return max(prompt, *wide)


def _drawn(setup: Setup, writing: Writing) -> float:
    return writing.rows * setup.student.vocabulary * float(DECODING + READER * (len(writing.readers) - 1))
