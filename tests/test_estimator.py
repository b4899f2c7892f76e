"""An estimator in the hands of Lightning, of pickle and of the enumerator."""

import copy
import pickle

import lightning.pytorch as pl
import pytest
import torch

from opd_bench import exact_moments, load_method, method_names
from opd_bench.scoring import ScoredBatch, batch_loss
from opd_bench.tokens import Origin
from tests.prefixes import prefix_pair


class Tabular(pl.LightningModule):
    """A student whose parameters are its logits at four positions; its estimator rides along as a callback."""

    def __init__(self, estimator):
        super().__init__()
        self.estimator = estimator
        student, self.teacher = (logits.float() for logits in prefix_pair(4, 7))
        self.logits = torch.nn.Parameter(student)

    def configure_callbacks(self):
        return [self.estimator]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=10.0)

    def training_step(self, token, _):
        shape = (len(token), 4)
        batch = ScoredBatch(
            student=self.logits.expand(*shape, 7),
            teacher=self.teacher.expand(*shape, 7),
            token=token,
            response=torch.ones(shape, dtype=torch.bool),
            origin=torch.full(shape, Origin.STUDENT),
            behaviour_logp=torch.zeros(shape),
            uniform=torch.full(shape, 0.5),
        )
        loss = batch_loss(self.estimator, [batch], progress=0.0)
        self.losses = [*getattr(self, "losses", []), float(loss.detach())]
        return loss


def test_a_trainer_carries_an_estimator_and_the_student_moves_to_the_teacher(tmp_path):
    module = Tabular(load_method("opd_full").estimator)
    tokens = torch.zeros(40, 4, dtype=torch.long)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, torch.utils.data.DataLoader(tokens, batch_size=4))
    assert module.estimator in trainer.callbacks
    assert module.losses[-1] < module.losses[0] / 2


@pytest.mark.parametrize("name", method_names())
def test_copies_and_pickles_are_the_same_method(name):
    for made in load_method(name):
        for twin in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert type(twin) is type(made)
            assert twin.settings() == made.settings()


@pytest.mark.parametrize("name", method_names())
def test_a_token_that_neither_model_has_changes_no_moment(name):
    estimator = load_method(name).estimator
    student, teacher = prefix_pair(3, 90)
    holes = torch.arange(90) % 9 == 4
    origin = sorted(estimator.learns_from)[0].name.lower()
    punched = exact_moments(
        estimator, student.masked_fill(holes, -torch.inf), teacher.masked_fill(holes, -torch.inf), origin=origin
    )
    reduced = exact_moments(estimator, student[:, ~holes], teacher[:, ~holes], origin=origin)
    torch.testing.assert_close(punched.mean[:, ~holes], reduced.mean, rtol=1e-10, atol=1e-12)
    assert punched.mean[:, holes].abs().max() == 0
    torch.testing.assert_close(punched.variance, reduced.variance, rtol=1e-10, atol=1e-12)
