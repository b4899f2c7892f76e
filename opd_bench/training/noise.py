"""How much of a step's gradient is noise: from its parts, micro-batch by micro-batch, before they are added up."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from opd_bench.training.module import Distillation
from opd_bench.training.ranks import summed


class GradientNoise(pl.Callback):
    """Variance of a step's gradient G = Σ_k g_k over its K parts, the micro-batches of all processes.

        g_k = numerator_k / global denominator,  K g_k: K draws whose mean is E G
        tr Cov(K g) = K/(K − 1) · (mean ‖K g_k‖² − ‖G‖²),  variance of G = tr Cov(K g)/K
        signal = ‖G‖² − variance,  an unbiased estimate of ‖E G‖²
        noise scale = Σ variance · sequences / Σ signal,  over the steps so far

    The noise scale is that of McCandlish et al. 2018 (arXiv:1812.06162), "simple", in sequences. It is a ratio of sums:
    one step's signal may be negative. With K = 1 there is nothing to tell. Parts are taken to be alike and independent:
    let K divide the sequences, and mind that a batch quantile ties them together. Proved by tests/test_noise.py.
    """

    def __init__(self, every: int):
        self.every = every
        self.sums = dict.fromkeys(("variance", "spread", "signal", "steps"), 0.0)
        self.adam: float | None = None
        self._parts = _Parts([])

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """No parts yet."""
        self._parts = _Parts([])

    def on_after_backward(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """One more part has been added to this process's gradient, and nothing is reduced yet."""
        assert isinstance(module, Distillation)
        if module.plan.micro_batches > 1 and self._looks(trainer.global_step):
            with module.timed("moments"), torch.no_grad():
                gradient = [p.grad for p in module.student.parameters() if p.grad is not None]
                self._parts.add(gradient, last=len(self._parts.squares) == module.pieces - 1)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """What the parts and the norm of their sum say, and what Adam's state does."""
        assert isinstance(module, Distillation)
        if not self._looks(trainer.global_step - 1):
            return
        with module.timed("moments"):
            module.metrics |= self._of_parts(module)
            update = module.update
            local = adam_proxy(update.adam) / update.copies
            self.adam = summed({"proxy": local})["proxy"]
            module.metrics["grad/adam_proxy"] = self.adam

    def totals(self) -> dict[str, float]:
        """Of the steps so far: the mean variance of a step's gradient, the noise scale, and the last Adam proxy."""
        sums = self.sums
        found = {"step_variance": sums["variance"] / sums["steps"]} if sums["steps"] else {}
        if sums["signal"] > 0:
            found["noise_scale"] = sums["spread"] / sums["signal"]
        return found if self.adam is None else found | {"adam_proxy": self.adam}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on from."""
        return {"sums": dict(self.sums), "adam": self.adam}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As saved."""
        self.sums, self.adam = dict(state_dict["sums"]), state_dict["adam"]

    def _looks(self, step: int) -> bool:
        return self.every > 0 and step % self.every == 0

    def _of_parts(self, module: Distillation) -> dict[str, float]:
        if not self._parts.squares:
            return {}
        assert module.rollout is not None
        local = {"parts": len(self._parts.squares), "sequences": len(module.rollout.ids)}
        squares = sum(self._parts.squares) / module.update.factor**2
        found = summed({"squares": squares, **local})
        variance, signal = variance_and_signal(found["squares"], module.metrics["grad/norm"] ** 2, int(found["parts"]))
        new = {"variance": variance, "signal": signal, "spread": variance * found["sequences"], "steps": 1}
        for name, value in new.items():
            self.sums[name] += value
        scale = {name: value for name, value in self.totals().items() if name == "noise_scale"}
        return {f"grad/{name}": value for name, value in ({"step_variance": variance} | scale).items()}


def variance_and_signal(squares: float, whole: float, parts: int) -> tuple[float, float]:
    """Of G = Σ_k g_k, from Σ ‖g_k‖², ‖G‖² and K: (K Σ ‖g_k‖² − ‖G‖²)/(K − 1), and ‖G‖² without that."""
    variance = (parts * squares - whole) / (parts - 1)
    return variance, whole - variance


def adam_proxy(adam: Optimizer) -> float:
    """Σ (v̂ − m̂²) over parameters: the spread of recent clipped gradients about their mean, as Adam's averages have it.

    m̂ = m/(1 − β₁ᵗ) and v̂ = v/(1 − β₂ᵗ) look back over different times, and while they do the gradient drifts: the
    number mixes noise with drift, and is not comparable across learning rates.
    """
    beta1, beta2 = adam.param_groups[0]["betas"]
    total = 0.0
    for state in adam.state.values():
        step = float(state["step"])
        first = _squares([state["exp_avg"]]) / (1 - beta1**step) ** 2
        total += float(state["exp_avg_sq"].sum(dtype=torch.float64)) / (1 - beta2**step) - first
    return total


class _Parts:
    """Σ x² of every part of a gradient that grows part by part, with one copy of what it was before."""

    def __init__(self, before: list[Tensor]):
        self.before, self.squares = before, list[float]()

    def add(self, gradient: list[Tensor], last: bool) -> None:
        """The gradient with one more part in it; the copy is not needed after the last."""
        if self.before:
            torch._foreach_sub_(self.before, gradient)
        self.squares.append(_squares(self.before or gradient))
        if last:
            self.before = []
        elif self.before:
            torch._foreach_copy_(self.before, gradient)
        else:
            self.before = [part.clone() for part in gradient]


def _squares(tensors: list[Tensor]) -> float:
    """Σ x², in float32 within a tensor at least and in float64 over tensors."""
    dtype = torch.promote_types(tensors[0].dtype, torch.float32)
    return float(torch.stack(torch._foreach_norm(tensors, 2, dtype)).double().square().sum())
