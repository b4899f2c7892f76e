"""What a step needs memory for, in words and sizes: for a run that had too little of it."""

from torch import nn

from opd_bench.models.network import learning, numbers
from opd_bench.training.module import Distillation
from opd_bench.training.ranks import processes

STATE = 3
"""Numbers that training keeps beside each of the student's that learns: gradient, and AdamW's two moments."""
REMEDY = (
    "lower plan.chunk, raise plan.micro_batches, lower evaluation.batch if it was in an evaluation, "
    "or shard with TRAINER=zero3_offload"
)


def memory_hint(module: Distillation) -> str:
    """The sizes of a step in each process, and which settings make them smaller."""
    plan = module.plan
    responses = plan.prompts * plan.rollouts // processes()
    pieces = -(-plan.micro_batches // processes())
    batch = -(-responses // pieces)
    kept = numbers(module.student.parameters()) + STATE * numbers(learning(module.student))
    tokens, vocabulary = min(module.chunk, batch * plan.response_limit), module.teacher.vocabulary
    return (
        f"a step had {responses:,} responses of up to {plan.response_limit:,} tokens in each process, "
        f"in {_counted(pieces, 'micro-batch', 'es')}; the loss took {tokens:,} tokens × {vocabulary:,} "
        f"logits at once ({_size(4 * tokens * vocabulary)} for either model, and more on the way); "
        f"the student has {_millions(module.student)} ({_size(4 * kept)} with gradient and "
        f"AdamW), the teacher {_millions(module.teacher.model)}; {REMEDY}"
    )


def _millions(model: nn.Module) -> str:
    return f"{numbers(model.parameters()) / 1e6:,.2f} M parameters"


def _counted(number: int, what: str, plural: str) -> str:
    return f"{number:,} {what}{plural if number > 1 else ''}"


def _size(size: float) -> str:
    """Bytes, in the unit that suits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.4g} {unit}"
        size /= 1024
    return f"{size:,.4g} TiB"
