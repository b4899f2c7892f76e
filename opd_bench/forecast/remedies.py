"""What makes a run smaller: settings that would, one after the other, each with the memory that it brings."""

from collections.abc import Iterator
from typing import NamedTuple

from opd_bench.forecast.memory import memory
from opd_bench.forecast.setup import Setup

WORTH = 0.02
"""Of the peak: what brings less is not worth a word."""
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
    """The one that helps most first, and then what helps most beside it; sharding where nothing else does."""
    found: list[Remedy] = []
    while best := _best(_gentle(setup), setup) or _best(_sharded(setup), setup):
        found.append(best)
        setup = best.setup
    return found


def _best(offered: Iterator[Remedy], setup: Setup) -> Remedy | None:
    enough = memory(setup).peak * (1 - WORTH)
    return min((remedy for remedy in offered if remedy.peak < enough), key=lambda remedy: remedy.peak, default=None)


def _gentle(setup: Setup) -> Iterator[Remedy]:
    """Without more processes. What is of plan, evaluation or teacher makes another protocol."""
    plan, teacher, layout = setup.plan, setup.teacher_reading, setup.layout
    if not layout.gradient_checkpointing:
        words = "trainer.gradient_checkpointing=true"
        yield Remedy(words, setup.changed("layout", gradient_checkpointing=True))
    if plan.micro_batches < plan.rows:
        yield Remedy(f"plan.micro_batches={plan.rows}", setup.changed("plan", micro_batches=plan.rows))
    if plan.chunk > CHUNK:
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
