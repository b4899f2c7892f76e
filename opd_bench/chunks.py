"""Rows of tokens through both heads: chunk by chunk, and within a chunk slice by slice.

A chunk is as many tokens as memory allows, for that is what products of matrices like: both heads forward, and the
gradient back through the student's. In between, slices of as many as caches like have the loss, and its gradient takes
the place of the student's logits. So of size [chunk, V] there is nothing but the two models' logits, whatever the
estimator reads, and no projection is done twice.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from opd_bench.maths.reduction import weighted_sum
from opd_bench.models.network import Head
from opd_bench.tokens import TokenBatch, TokenLoss

Lesson = Callable[[TokenBatch], TokenLoss]
"""An estimator at some point of training."""

Observe = Callable[[TokenBatch], Mapping[str, Tensor]]
"""Named values per token to watch, of tokens without gradient."""

CHUNK = {"cpu": 1 << 25, "cuda": 1 << 27}
"""Logits of either model at once, by device, where nobody says for how many tokens."""
SLICE = {"cpu": 1 << 20, "cuda": 1 << 25}
"""Of these, how many a lesson gets at once: on a GPU more, where what costs is to launch something."""


def affordable(vocabulary: int, device: str) -> int:
    """For how many tokens the logits are there at once: a multiple of 64, if it is as many."""
    count = max(1, CHUNK.get(device, CHUNK["cuda"]) // vocabulary)
    return count // 64 * 64 or count


def slice_of(vocabulary: int, device: str) -> int:
    """How many tokens a lesson gets at once."""
    return max(1, SLICE.get(device, SLICE["cuda"]) // vocabulary)


class Heads(NamedTuple):
    """How hidden states become logits; by default they are the logits."""

    student: Head = Head()
    teacher: Head = Head()


LOGITS = Heads()


class Look(NamedTuple):
    """What is watched, and of how many tokens at most, evenly spread."""

    observe: Observe | None = None
    most: int | None = None  # None: of all


class Rows(NamedTuple):
    """Tokens that count, flat."""

    student: Tensor  # [N, H]
    teacher: Tensor  # [N, H']
    token: Tensor  # [N]
    origin: Tensor  # [N]
    behaviour_logp: Tensor  # [N]
    uniform: Tensor  # [N]
    weight: Tensor | None  # [N]

    def at(self, part: slice) -> "Rows":
        """Some of them."""
        return Rows(*(None if field is None else field[part] for field in self))  # type: ignore[arg-type]

    def parts(self, most: int | None) -> Iterator[slice]:
        """Equal ones of at most so many; at least one, if an empty one."""
        count = len(self.token)
        number = max(1, -(-count // most)) if most else 1
        size = max(1, -(-count // number))
        return (slice(start, start + size) for start in range(0, max(1, count), size))

    def slices(self, logits: Tensor) -> Iterator[slice]:
        """Of a chunk that has these."""
        return self.parts(slice_of(logits.shape[-1], logits.device.type))


class Chunked(NamedTuple):
    """Both heads, and how many tokens go through them at once."""

    heads: Heads = LOGITS
    size: int | None = None  # None: all

    def tokens(self, rows: Rows) -> Iterator[TokenBatch]:
        """Slice by slice."""
        for part in rows.parts(self.size):
            chunk = rows.at(part)
            student, teacher = self.projected(chunk)
            for some in chunk.slices(student):
                yield self.at(chunk.at(some), student[some], teacher[some])

    def projected(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """What both heads project hidden states to."""
        return self.heads.student.project(rows.student).detach(), self.heads.teacher.project(rows.teacher).detach()

    def at(self, rows: Rows, student: Tensor, teacher: Tensor) -> TokenBatch:
        """Tokens from what their states were projected to."""
        return TokenBatch(
            student_logits=self.heads.student.logits(student),
            teacher_logits=self.heads.teacher.logits(teacher),
            token=rows.token,
            origin=rows.origin,
            behaviour_logp=rows.behaviour_logp,
            uniform=rows.uniform,
            weight=rows.weight,
        )


class Scored(NamedTuple):
    """The numerator Σ w ℓ of some rows, with gradient, once; and what was watched."""

    numerator: Tensor
    stats: Mapping[str, Tensor]  # the estimator's own, each [N]
    observed: Mapping[str, Tensor]  # the observer's, each [N] or fewer


def learnt(chunked: Chunked, rows: Rows, lesson: Lesson, look: Look) -> Scored:
    """Σ w ℓ over the rows, which carries gradient to hidden states and to the student's head."""
    walk = _Walk(chunked, lesson, look, rows)
    apply: Callable[..., Tensor] = _Learnt.apply
    head = chunked.heads.student
    numerator = apply(walk, rows.student, head.weight, head.bias)
    return Scored(numerator, walk.stats.values, walk.observed.values)


class _Learnt(torch.autograd.Function):
    """The gradients are made on the way, and handed over once: another backward pass would find them changed."""

    @staticmethod
    def forward(ctx: Any, walk: "_Walk", hidden: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        given, needed = (hidden, weight, bias), ctx.needs_input_grad[1:]
        sums = _Sums.over(*(value if need else None for value, need in zip(given, needed, strict=True)))
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        for part in walk.rows.parts(walk.chunked.size):
            value, slope = walk.over(walk.rows.at(part), is_learning=any(needed))
            total += value
            if slope is not None:
                sums.add(slope, part, hidden[part], weight)
        ctx.sums, ctx.dtypes = sums, [None if value is None else value.dtype for value in given]
        return total.to(value.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        sums, ctx.sums = ctx.sums, None
        if sums is None:
            raise RuntimeError("a scored batch has been differentiated already; score it again")
        return None, *sums.times(upstream, ctx.dtypes)


class _Walk:
    """Over all rows, keeping what is seen on the way."""

    def __init__(self, chunked: Chunked, lesson: Lesson, look: Look, rows: Rows):
        self.chunked, self.lesson, self.look, self.rows = chunked, lesson, look, rows
        count = len(rows.token)
        self._stride = 1 if look.most is None else max(1, -(-count // look.most))
        self._done = 0
        self.stats, self.observed = _Notes(count), _Notes(len(range(0, count, self._stride)))

    def over(self, rows: Rows, is_learning: bool) -> tuple[Tensor, Tensor | None]:
        """Σ w ℓ of a chunk, and its gradient in what the student's states are projected to."""
        student, teacher = self.chunked.projected(rows)
        is_free = self.chunked.heads.student.weight is not None  # else it is the model's output, which others read too
        slope, total = student if is_free else torch.empty_like(student), None
        for some in rows.slices(student):
            value, found = self._over_slice(rows.at(some), student[some], teacher[some], is_learning)
            total = value if total is None else total.add_(value)
            if found is not None:
                slope[some] = found
        assert total is not None
        return total, slope if is_learning else None

    def _over_slice(self, rows: Rows, student: Tensor, teacher: Tensor, is_learning: bool) -> tuple[Tensor, Any]:
        leaf, slope = student.detach().requires_grad_(is_learning), None
        with torch.enable_grad():
            tokens = self.chunked.at(rows, leaf, teacher)
            result = self.lesson(tokens)
            value = weighted_sum(result.loss, result.weight)
        if is_learning:
            (slope,) = torch.autograd.grad(value, leaf) if value.requires_grad else (torch.zeros_like(leaf),)
        self.stats.add(result.stats)
        self.observed.add(self._seen(tokens))
        return value.detach(), slope

    def _seen(self, tokens: TokenBatch) -> Mapping[str, Tensor]:
        """What the observer makes of those whose turn it is."""
        first, self._done = -self._done % self._stride, self._done + len(tokens.token)
        if self.look.observe is None:
            return {}
        return self.look.observe(
            tokens.detached() if self._stride == 1 else tokens.at(slice(first, None, self._stride))
        )


class _Notes:
    """Values per token by name, in the order in which they come.

    Room for all is made at once: small tensors that stay, between large ones that go, would tear memory to pieces.
    """

    def __init__(self, count: int):
        self.count, self._done = count, 0
        self.values: dict[str, Tensor] = {}

    def add(self, found: Mapping[str, Tensor]) -> None:
        """Those of a slice."""
        size = 0
        for name, value in found.items():
            size = len(value)
            if name not in self.values:
                self.values[name] = value.new_empty(self.count)
            self.values[name][self._done : self._done + size] = value.detach()
        self._done += size


class _Sums:
    """Gradients in hidden states, head weight and bias, chunk by chunk; in float32 at least, for chunks are many."""

    def __init__(self, hidden: Tensor | None, weight: Tensor | None, bias: Tensor | None):
        self.hidden, self.weight, self.bias = hidden, weight, bias
        self._is_new = True

    @classmethod
    def over(cls, hidden: Tensor | None, weight: Tensor | None, bias: Tensor | None) -> "_Sums":
        """Room for those that are needed."""
        return cls(*(value if value is None else _room(value) for value in (hidden, weight, bias)))

    def add(self, slope: Tensor, part: slice, hidden: Tensor, weight: Tensor | None) -> None:
        """A chunk's share, from its gradient in the projection: of the head's tokens, the first so many."""
        width = slope.shape[-1]
        if self._is_new:  # the others have no gradient
            for value in (self.weight, self.bias):
                if value is not None:
                    value[width:] = 0
        if self.hidden is not None and weight is not None:
            self.hidden[part] = slope @ weight[:width]
        elif self.hidden is not None:
            self.hidden[part, :width], self.hidden[part, width:] = slope, 0
        if self.weight is not None:
            self._product(self.weight[:width], slope.T, hidden)
        if self.bias is not None:
            own = slope.sum(0, dtype=self.bias.dtype)
            self.bias[:width] = own if self._is_new else self.bias[:width] + own
        self._is_new = False

    def times(self, factor: Tensor, dtypes: Sequence[torch.dtype | None]) -> Iterator[Tensor | None]:
        """In place, each in the type of what it is the gradient of."""
        for value, dtype in zip((self.hidden, self.weight, self.bias), dtypes, strict=True):
            yield None if value is None else value.mul_(factor.to(value.dtype)).to(dtype)

    def _product(self, total: Tensor, left: Tensor, right: Tensor) -> None:
        """total (+)= left · right: in the type of the factors, and then summed."""
        if total.dtype != left.dtype or total.dtype != right.dtype:
            product = left @ right
            total.copy_(product) if self._is_new else total.add_(product)
        elif self._is_new:
            torch.mm(left, right, out=total)
        else:
            total.addmm_(left, right)


def _room(value: Tensor) -> Tensor:
    return torch.empty_like(value, dtype=torch.promote_types(value.dtype, torch.float32))
