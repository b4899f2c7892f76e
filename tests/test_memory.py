"""What is said when there was too little memory: the sizes are those of the run."""

import re

from opd_bench.training.memory import memory_hint
from tests.runs import small_run


def test_the_sizes_are_those_of_a_step(tmp_path):
    run = small_run(tmp_path, "opd", "plan.prompts=6", "plan.rollouts=2", "plan.micro_batches=3", "plan.chunk=100")
    module = run._parts().module
    hint = memory_hint(module)
    own, teacher = (sum(p.numel() for p in network.model.parameters()) for network in (module.pupil, module.teacher))
    assert "12 responses of up to 40 tokens in each process, in 3 micro-batches" in hint
    assert f"100 tokens × 512 logits at once ({100 * 512 * 4 / 1024:.4g} KiB for either model" in hint
    assert f"the student has {own / 1e6:.2f} M parameters ({16 * own / 2**20:.4g} MiB with" in hint
    assert f"the teacher {teacher / 1e6:.2f} M parameters" in hint
    assert re.search(r"lower plan\.chunk, raise plan\.micro_batches.*TRAINER=zero3_offload$", hint)


def test_a_chunk_is_never_larger_than_its_micro_batch(tmp_path):
    module = small_run(tmp_path, "opd", "plan.prompts=4", "plan.micro_batches=4")._parts().module
    assert "the loss took 40 tokens × 512 logits" in memory_hint(module)
