"""Peak memory above what was there before: of a step, and of the loss alone, each in a process of its own."""

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.clock import Now

WAYS = ("ours opd_full", "ours opd", "TRL Distillation", "as in Hugging Face")
HIDDEN, VOCABULARY = 896, 151_936
TOKENS = (2048, 4096)


class Peak:
    """`Peak()` … `.bytes()`: how far memory went above where it was."""

    def __init__(self) -> None:
        gc.collect()
        self.on_gpu = torch.cuda.is_initialized()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
            return
        if sys.platform == "linux":
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
        self.before = _status("VmRSS")

    def bytes(self) -> int:
        """Of the GPU if one is used; of the process, as Linux counts it; 0 where nobody tells."""
        if self.on_gpu:
            return torch.cuda.max_memory_allocated() - self.before
        return max(0, _status("VmHWM") - self.before)


def _status(name: str) -> int:
    path = Path("/proc/self/status")
    return int(path.read_text().partition(f"{name}:")[2].split()[0]) * 1024 if path.exists() else 0


def available() -> int:
    """Bytes that are free."""
    if torch.cuda.is_initialized():
        return int(torch.cuda.mem_get_info()[0])
    path = Path("/proc/meminfo")
    return int(path.read_text().partition("MemAvailable:")[2].split()[0]) * 1024 if path.exists() else 1 << 34


def losses(tokens: Sequence[int], tell: Callable[[str], None], **sizes: int) -> list[dict[str, Any]]:
    """Every way at the first number of tokens, ours at all, two at a time; what needs too much is not run."""
    jobs = [
        {"way": way, "tokens": count, "hidden": HIDDEN, "vocabulary": VOCABULARY} | sizes
        for count in tokens
        for way in WAYS
        if count == tokens[0] or way.startswith("ours")
    ]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda job: _apart(job, tell), jobs))


def _apart(job: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    needed = 10 * 4 * job["tokens"] * job["vocabulary"]
    if job["way"] == WAYS[-1] and needed > available() / 2:
        return job | {"left out": f"needs ~{needed / 2**30:.0f} GiB"}
    tell(f"{job['way']}, {job['tokens']} tokens")
    command = [sys.executable, "-m", "benchmarks.memory", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{job} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def loss_alone(job: dict[str, Any]) -> dict[str, Any]:
    """Both heads, the loss and its gradient in hidden states and in the student's head."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    made = _inputs(job["tokens"], job["hidden"], job["vocabulary"])
    function = _WAYS[job["way"]]
    function(*_inputs(4, 8, 64))  # what is made once, is made
    peak, start = Peak(), Now.read()
    loss = function(*made)
    spent = Now.read().since(start)
    gradients = sum(value.grad.numel() * 4 for value in made if value.grad is not None)
    return job | {"bytes": peak.bytes(), "gradients": gradients, "cpu": spent.cpu, "loss": loss}


def _inputs(tokens: int, hidden: int, vocabulary: int) -> list[torch.Tensor]:
    """States and heads of the student and of the teacher."""
    student, teacher = (torch.randn(1, tokens, hidden) for _ in range(2))
    heads = [torch.randn(vocabulary, hidden).mul_(0.05) for _ in range(2)]
    return [student.requires_grad_(), teacher, heads[0].requires_grad_(), heads[1]]


def _ours(method: str) -> Callable[..., float]:
    def function(*made: torch.Tensor) -> float:
        from opd_bench.catalogue import load_method
        from opd_bench.chunks import affordable
        from opd_bench.models.network import Head
        from opd_bench.scoring import Heads, ScoredBatch, batch_loss

        student, teacher, own, theirs = made
        token = torch.arange(student.shape[1])[None] % len(own)
        zeros = torch.zeros(token.shape)
        batch = ScoredBatch(student, teacher, token, torch.ones_like(token).bool(), zeros.long(), zeros, zeros)
        estimator = load_method(method).estimator
        loss = batch_loss(estimator, [batch], 0.0, affordable(len(own), "cpu"), Heads(Head(own), Head(theirs)))
        loss.backward()
        return float(loss.detach())

    return function


def _peer(*made: torch.Tensor) -> float:
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    student, teacher, own, theirs = made
    mask = torch.ones(student.shape[:2])
    loss, _, _ = _chunked_divergence_loss(student, teacher, own, theirs, mask, 1.0)
    loss.backward()
    return float(loss.detach())


def _plain(*made: torch.Tensor) -> float:
    from torch.nn import functional as F

    student, teacher, own, theirs = made
    logits = F.linear(student, own)
    with torch.no_grad():
        taught = F.linear(teacher, theirs)
    laws = F.log_softmax(taught, -1), F.log_softmax(logits, -1)
    loss = F.kl_div(*laws, reduction="none", log_target=True).sum() / student.shape[1]
    loss.backward()
    return float(loss.detach())


_WAYS: dict[str, Callable[..., float]] = dict(zip(WAYS, (_ours("opd_full"), _ours("opd"), _peer, _plain), strict=True))

if __name__ == "__main__":
    print(json.dumps(loss_alone(json.loads(sys.argv[1]))))
