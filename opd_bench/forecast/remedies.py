"""What makes a run smaller: settings that would, one after the other, each with the memory that it brings."""

from collections.abc import Iterator
from typing import NamedTuple

from opd_bench.forecast.memory import PHASES, chunk, memory
from opd_bench.forecast.setup import Setup

WORTH = 0.02
"""Of the peak: what brings less is not worth a word."""
NEAR = 8
"""The larger, the less do phases count that need less than the worst."""
CHUNK, BATCH = 512, 32
"""Tokens whose logits exist at once, and responses judged at once, of a run that has to be small."""


class Remedy(NamedTuple):
    """Settings, and the run that they make."""

    words: str
    setup: Setup

    @property
    def peak(self) -> float:
        """Bytes of a process."""
        return memory(self.setup).peak


def remedies(setup: Setup) -> list[Remedy]:
    """What helps most first, and then what helps most beside it: several settings together where none helps alone."""
    found, words, peak = list[Remedy](), list[str](), memory(setup).peak
    while best := _best(_gentle(setup), setup) or _best(_sharded(setup), setup):
        setup, words = best.setup, [*words, best.words]
        if best.peak < peak * (1 - WORTH):
            found.append(Remedy(" and ".join(words), setup))
            words, peak = [], best.peak
    return found


def _best(offered: Iterator[Remedy], setup: Setup) -> Remedy | None:
    enough = _burden(setup) * (1 - WORTH)
    return min((remedy for remedy in offered if _burden(remedy.setup) < enough), key=_of, default=None)


def _of(remedy: Remedy) -> float:
    return _burden(remedy.setup)


def _burden(setup: Setup) -> float:
    """Little more than the peak: phases that come near it count, so that they are made smaller too."""
    needed = memory(setup)
    return float(sum((needed.total(phase) / needed.peak) ** NEAR for phase in PHASES) ** (1 / NEAR) * needed.peak)


def _gentle(setup: Setup) -> Iterator[Remedy]:
    """Without more processes. What is of plan, evaluation or teacher makes another protocol."""
    plan, teacher, layout = setup.plan, setup.teacher_reading, setup.layout
    if not layout.gradient_checkpointing:
        words = "trainer.gradient_checkpointing=true"
        yield Remedy(words, setup.changed("layout", gradient_checkpointing=True))
    if plan.micro_batches < plan.rows:
        yield Remedy(f"plan.micro_batches={plan.rows}", setup.changed("plan", micro_batches=plan.rows))
    if chunk(setup) > CHUNK:
        yield Remedy(f"plan.chunk={CHUNK}", setup.changed("plan", chunk=CHUNK))
    if setup.evaluation.batch > BATCH:
        yield Remedy(f"evaluation.batch={BATCH}", setup.changed("evaluation", batch=BATCH))
    if teacher.dtype == "float32":
        yield Remedy("teacher.dtype=bfloat16", setup.changed("teacher_reading", dtype="bfloat16"))
    if not teacher.rests_on_cpu and not teacher.quantised:
        yield Remedy("teacher.rests_on_cpu=true", setup.changed("teacher_reading", rests_on_cpu=True))


def _sharded(setup: Setup) -> Iterator[Remedy]:
    """Over as many processes as there are."""
    if not setup.layout.offload:
        more = {"strategy": "zero3", "offload": True, "gradient_checkpointing": True}
        yield Remedy("TRAINER=zero3_offload", setup.changed("layout", **more))
