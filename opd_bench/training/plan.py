"""What a run is set by, other than its method, task and models."""

from dataclasses import dataclass
from typing import Annotated, Literal

from opd_bench.maths.schedules import cosine, linear
from opd_bench.settings import Bound, Count, NoneOrMore, NonNegative, Positive, Settings, Share

AtLeastTwo = Annotated[int, Bound(2)]


@dataclass(kw_only=True, eq=False)
class Plan(Settings):
    """Batch, budget and optimiser: the same for every method that is compared."""

    steps: Count
    prompts: Count  # per step, over all processes
    rollouts: Count  # per prompt
    micro_batches: Count  # that a step's rollouts are cut into, over all processes, each of which has as many
    response_limit: Count  # tokens
    chunk: Count  # tokens whose logits exist at once
    learning_rate: Positive
    beta1: Share
    beta2: Share
    weight_decay: NonNegative
    clip: Positive | None  # of the gradient's norm
    warmup: NoneOrMore  # steps
    decay: Literal["constant", "linear", "cosine"]
    floor: Share  # of the learning rate, where the decay ends

    @property
    def rows(self) -> int:
        """Rollouts of a step over all processes, without extra ones."""
        return self.prompts * self.rollouts

    def learning_rate_at(self, step: int) -> float:
        """The factor on the learning rate: a linear rise over the warm-up, times the decay."""
        progress = min(1.0, step / self.steps)
        shape = {
            "constant": 1.0,
            "linear": max(self.floor, linear(1.0, 0.0, progress)),
            "cosine": cosine(1.0, self.floor, progress),
        }
        return min(1.0, (step + 1) / (self.warmup + 1)) * shape[self.decay]


@dataclass(kw_only=True, eq=False)
class Evaluation(Settings):
    """Which problems a student is judged on, and how often."""

    problems: Count  # of the test split, before and after
    seed: NoneOrMore  # of these problems; never the run's
    samples: Count  # sampled responses per problem, beside the greedy one
    every: NoneOrMore  # steps between looks at the validation split; 0: never
    validation_problems: Count
    batch: Count  # responses generated at once
    verdict_seconds: Positive  # after which a verdict that has not come is that the response is wrong


@dataclass(kw_only=True, eq=False)
class Watch(Settings):
    """What is measured while a run goes on."""

    moments_every: NoneOrMore  # steps between looks at the logit gradient's moments; 0: never
    prefixes: Count  # at each of these
    redraws: AtLeastTwo  # of the token at each prefix, where the vocabulary is too large to enumerate
    noise_every: NoneOrMore  # steps between looks at un-reduced gradients; 0: never
    checkpoint_every: NoneOrMore  # steps; 0: never, and a killed run starts again
    checkpoints_kept: Count  # the newest
    divergence: Positive  # reverse KL in nats a token above which a run ends
    time_limit: Positive | None  # seconds of training after which a run ends
    weights_every: NoneOrMore  # steps between students kept for a probe, the first before step 1; 0: none
    histograms_every: NoneOrMore  # steps between histograms over tokens in TensorBoard, from the first on; 0: never
    samples_shown: NoneOrMore  # problems whose responses before and after are texts in TensorBoard; 0: none
