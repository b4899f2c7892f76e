"""TRL's trainers at their best: gradient checkpointing off, always on-policy, nothing logged or saved."""

import os
import tempfile
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.clock import Side
from benchmarks.models import CPU, Place, Shape, pair, questions, tokenizer
from benchmarks.ours import plan_for

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")


class Peer(Side):
    """One of TRL's trainers on the pair of `shape`, reverse KL over the whole vocabulary."""

    label: str

    def __init__(self, shape: Shape, steps: int, place: Place = CPU):
        super().__init__(self.label)
        self.shape, self.steps, self.place = shape, steps, place
        self.student, self.teacher = pair(shape, place.device)
        self.tokenizer = tokenizer(shape.vocabulary)
        self.asked = questions(shape, shape.batch * steps)
        self.scored: Callable[..., dict[str, float]] | None = None  # checks the first loss
        self.trainer = self._trainer()
        self._watch()

    def run(self) -> None:
        """Its own loop."""
        self.trainer.train()

    @abstractmethod
    def written(self, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ids, mask and where the responses are, of what a loss was computed on."""

    def mean_loss(self, loss: float, items: Any) -> float:
        """Per token of the responses, from what the trainer computed."""
        return loss

    @abstractmethod
    def _trainer(self) -> Any:
        """Ready to train."""

    def _settings(self) -> dict[str, Any]:
        """What both trainers are told."""
        plan = plan_for(self.shape)
        return {
            "output_dir": tempfile.mkdtemp(),
            "per_device_train_batch_size": self.shape.batch,
            "gradient_accumulation_steps": 1,
            "gradient_checkpointing": False,
            "max_steps": self.steps,
            "learning_rate": plan["learning_rate"],
            "adam_beta1": plan["beta1"],
            "adam_beta2": plan["beta2"],
            "weight_decay": plan["weight_decay"],
            "max_grad_norm": plan["clip"],
            "lr_scheduler_type": "constant",
            "temperature": 1.0,
            "beta": 1.0,  # reverse KL
            "bf16": self.place.precision == "bf16",
            "use_cpu": self.place.device == "cpu",
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
        }

    def _watch(self) -> None:
        trainer, clock = self.trainer, self.clock
        for model, name in ((self.student, "student forward"), (self.teacher, "teacher")):
            model.forward = clock.wrapped(name, model.forward)
            model.model.forward = clock.wrapped(name, model.model.forward)
            model.lm_head.forward = clock.wrapped("loss + heads", model.lm_head.forward)
        self.student.generate = clock.wrapped("generation", self.student.generate)
        trainer.compute_loss = self._kept(clock.wrapped("loss + heads", trainer.compute_loss))
        trainer.accelerator.backward = clock.wrapped("backward", trainer.accelerator.backward)
        trainer.accelerator.clip_grad_norm_ = clock.wrapped("optimiser", trainer.accelerator.clip_grad_norm_)
        trainer.add_callback(_pausing(self))

    def _kept(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        """The loss, noted; the first one is checked."""

        def computed(model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            loss = compute(model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch)
            value = loss[0] if return_outputs else loss
            self.losses.append(self.mean_loss(float(value), num_items_in_batch))
            if self.scored is not None and not self.check:
                ids, mask, response = self.written(inputs)
                self.check = self.scored(self, ids, mask, response, self.losses[-1])
            return loss

        return computed


class Distillation(Peer):
    """`DistillationTrainer`: hidden states, both heads tile by tile."""

    label = "TRL Distillation"

    def written(self, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Prompts and completions stand apart."""
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1).bool()
        response = torch.cat([torch.zeros_like(inputs["prompt_mask"]), inputs["completion_mask"]], 1).bool()
        return ids, mask, response

    def _trainer(self) -> Any:
        from datasets import Dataset
        from trl import DistillationConfig, DistillationTrainer

        options = {"max_completion_length": self.shape.new_tokens, "shuffle_dataset": False}
        return DistillationTrainer(
            model=self.student,
            teacher_model=self.teacher,
            args=DistillationConfig(**options, **self._settings()),
            train_dataset=Dataset.from_dict({"prompt": self.asked}),
            processing_class=self.tokenizer,
        )


class GKD(Peer):
    """`GKDTrainer`, always on-policy: both models' logits of whole sequences."""

    label = "TRL GKD"

    def written(self, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Labels are −100 outside of responses."""
        return inputs["input_ids"], inputs["attention_mask"].bool(), inputs["labels"] != -100

    def mean_loss(self, loss: float, items: Any) -> float:
        """It divides by the number of labels of the data set's batch, not of what was written."""
        return loss * float(items) / (self.shape.batch * self.shape.new_tokens)

    def _trainer(self) -> Any:
        from datasets import Dataset
        from trl.experimental.gkd import GKDConfig, GKDTrainer

        words = [[("user", asked), ("assistant", "t5 t6")] for asked in self.asked]
        rows = [[{"role": role, "content": content} for role, content in turns] for turns in words]
        limits = {"max_new_tokens": self.shape.new_tokens, "max_length": self.shape.prompts[1] + 8}
        return GKDTrainer(
            model=self.student,
            teacher_model=self.teacher,
            args=GKDConfig(**limits, lmbda=1.0, train_sampling_strategy="sequential", **self._settings()),
            train_dataset=Dataset.from_dict({"messages": rows}),
            processing_class=self.tokenizer,
        )


PEERS = (Distillation, GKD)


def _pausing(side: Peer) -> Any:
    from transformers import TrainerCallback

    class Pausing(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
            """The optimiser is made late."""
            optimizer.step = side.clock.wrapped("optimiser", optimizer.step)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """After the update."""
            side.pause()

    return Pausing()
