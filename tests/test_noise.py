"""The variance of a step's gradient from its pieces: the identity, its bias, and what a run tells of it."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from opd_bench.reporting.record import find_records
from opd_bench.training import run as run_module
from opd_bench.training.noise import GradientNoise, adam_proxy, variance_and_signal
from tests.runs import series_of, small_run


class Pieces(pl.Callback):
    """Copies of every piece of a step's gradient, and of the whole."""

    def __init__(self):
        self.before, self.pieces, self.whole = None, [], None

    def on_after_backward(self, trainer, module):
        if trainer.global_step == 0:
            now = flat(p.grad for p in module.student.parameters()).double()
            self.pieces.append(now if self.before is None else now - self.before)
            self.before = now

    def on_train_batch_end(self, trainer, module, *_):
        self.metrics = dict(module.metrics)
        self.adam = module.update.adam


def flat(tensors) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def trained(folder, every: int, *overrides: str) -> tuple[GradientNoise, Pieces]:
    run, noise, pieces = small_run(folder, "opd", *overrides), GradientNoise(every), Pieces()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=run.plan.steps,
        callbacks=[noise, pieces],
        enable_model_summary=False,
        **options,
    )
    trainer.fit(run._parts().module)
    return noise, pieces


@pytest.mark.parametrize("count", [2, 4])
def test_the_variance_is_that_of_the_pieces_themselves(tmp_path, count):
    """tr Cov of K g_k about their mean, over K, from gradients that were stored; also when clipping binds."""
    noise, pieces = trained(tmp_path, 1, "plan.steps=1", "plan.clip=0.1", f"plan.micro_batches={count}")
    draws = count * torch.stack(pieces.pieces)
    covariance = draws.var(0, correction=1).sum()
    variance = float(covariance / count)
    signal = float(draws.mean(0).square().sum()) - variance
    assert len(pieces.pieces) == count
    assert pieces.metrics["grad/step_variance"] == pytest.approx(variance, rel=1e-4)
    assert noise.sums["signal"] == pytest.approx(signal, rel=1e-3)
    assert noise.sums["spread"] / 8 == pytest.approx(variance, rel=1e-4)  # 8 sequences
    assert noise.totals().get("noise_scale", 0) == pytest.approx(max(0.0, 8 * variance / signal), rel=1e-3)


def test_it_is_unbiased_and_the_plain_square_is_not():
    """Pieces with a known mean and covariance, 2000 times; the noise scale is 1/‖mean‖² · tr Cov of one sequence."""
    generator, size, count, sequences = torch.Generator().manual_seed(0), 20, 4, 8
    mean = torch.full((size,), 0.2, dtype=torch.float64)
    spread = torch.linspace(0.2, 0.8, size, dtype=torch.float64)  # of a piece, of K g_k
    found, plain = [], []
    for _ in range(2000):
        pieces = (mean + spread * torch.randn(count, size, generator=generator, dtype=torch.float64)) / count
        whole = float(pieces.sum(0).square().sum())
        found.append(variance_and_signal(float(pieces.square().sum()), whole, count))
        plain.append(whole)
    variance, signal = torch.tensor(found, dtype=torch.float64).T
    true_variance, true_signal = float(spread.square().sum()) / count, float(mean.square().sum())
    assert within(variance, true_variance, 3)
    assert within(signal, true_signal, 3)
    assert not within(torch.tensor(plain, dtype=torch.float64), true_signal, 20)
    assert (signal < 0).any()  # so that a mean of ratios would be worthless
    scale = float((sequences * variance).sum() / signal.sum())
    assert scale == pytest.approx(sequences * true_variance / true_signal, rel=0.3)


def within(values: torch.Tensor, target: float, errors: float) -> bool:
    return bool(abs(values.mean() - target) <= errors * values.std() / len(values) ** 0.5)


def test_adam_s_spread_is_that_of_its_bias_corrected_averages(tmp_path):
    noise, pieces = trained(tmp_path, 1, "plan.steps=3", "plan.clip=0.1")
    total = 0.0
    for state in pieces.adam.state.values():
        mean, square = state["exp_avg"].double() / (1 - 0.9**3), state["exp_avg_sq"].double() / (1 - 0.95**3)
        total += float((square - mean.square()).sum())
    assert total > 0
    assert pieces.metrics["grad/adam_proxy"] == pytest.approx(total, rel=1e-4)
    assert noise.totals()["adam_proxy"] == pieces.metrics["grad/adam_proxy"]


def test_gradients_that_never_change_have_no_spread():
    layer = nn.Linear(3, 2)
    adam = torch.optim.AdamW(layer.parameters(), lr=1e-3, betas=(0.9, 0.95))
    for _ in range(5):
        for parameter in layer.parameters():
            parameter.grad = torch.ones_like(parameter)
        adam.step()
    assert adam_proxy(adam) == pytest.approx(0, abs=1e-5)


def test_one_piece_tells_nothing_and_keeps_no_copy(tmp_path):
    noise, pieces = trained(tmp_path, 1, "plan.steps=2", "plan.micro_batches=1")
    assert not {"grad/step_variance", "grad/noise_scale"} & pieces.metrics.keys()
    assert noise.totals().keys() == {"adam_proxy"}
    assert noise._parts.before == noise._parts.squares == []


def test_the_record_has_what_was_looked_at_and_a_killed_run_forgets_nothing(tmp_path, monkeypatch):
    class Killer(pl.Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 5:
                raise KeyboardInterrupt

    options = ("plan.micro_batches=4", "watch.noise_every=2", "plan.learning_rate=1e-4")
    whole = small_run(tmp_path / "whole", "opd", *options).perform()
    extras = run_module.Run._extras
    monkeypatch.setattr(run_module.Run, "_extras", lambda run: [*extras(run), Killer()])
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        small_run(tmp_path / "cut", "opd", *options).perform()
    (stopped,), _ = find_records([tmp_path / "cut"])
    assert (stopped["status"], stopped["budget"]["steps"]) == ("killed", 5)
    assert stopped["reason"] == "stopped from outside, at once, after step 5; the same command goes on"
    monkeypatch.undo()
    cut = small_run(tmp_path / "cut", "opd", *options).perform()
    assert cut["training"]["gradient"] == whole["training"]["gradient"]
    told = series_of(small_run(tmp_path / "whole", "opd", *options))
    series = told["grad/step_variance"]
    assert [value is not None for value in series] == [True, False] * 3
    known = [value for value in series if value is not None]
    assert whole["training"]["gradient"]["step_variance"] == pytest.approx(sum(known) / 3)
    assert whole["training"]["gradient"]["adam_proxy"] == pytest.approx(told["grad/adam_proxy"][4])


def test_no_look_is_no_figure(tmp_path):
    record = small_run(tmp_path, "opd", "plan.micro_batches=2", "watch.noise_every=0").perform()
    assert not {"step_variance", "noise_scale", "adam_proxy"} & record["training"]["gradient"].keys()
