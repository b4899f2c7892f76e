"""What a run is set by, other than its method, task and models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from opd_bench.chunks import affordable
from opd_bench.maths.schedules import cosine, linear
from opd_bench.rollouts.choices import Sampling
from opd_bench.settings import Bound, Count, NoneOrMore, NonNegative, Positive, Settings, Share
from opd_bench.tokens import Origin

Mass = Annotated[float, Bound(1e-6, 1)]
AtLeastTwo = Annotated[int, Bound(2)]


@dataclass(kw_only=True, eq=False)
class Plan(Settings):
    """Batch, budget and optimiser: the same for every method that is compared."""

    steps: Count
    prompts: Count  # per step, over all processes
    rollouts: Count  # per prompt
    micro_batches: Count  # that a step's rollouts are cut into, over all processes, each of which has as many
    response_limit: Count  # tokens
    temperature: Positive  # at which the student writes; a teacher always does at 1
    top_p: Mass  # the likeliest tokens with this much of the mass are what the student writes from
    chunk: Count | None  # tokens whose logits exist at once; null: as many as a fixed amount of memory has room for
    health_tokens: Count | None  # of a micro-batch, evenly spread, that signs of health are read from; null: all
    learning_rate: Positive
    beta1: Share
    beta2: Share
    weight_decay: NonNegative
    clip: Positive | None  # of the gradient's norm
    warmup: NoneOrMore  # steps
    decay: Literal["constant", "linear", "cosine"]
    floor: Share  # of the learning rate, where the decay ends

    @property
    def sampling(self) -> dict[Origin, Sampling]:
        """Of whom it is not the law as it is."""
        own = Sampling(self.temperature, self.top_p)
        return {} if own == Sampling() else {Origin.STUDENT: own}

    def tokens_at_once(self, vocabulary: int, device: str) -> int:
        """For how many the logits are there at once."""
        return self.chunk or affordable(vocabulary, device)

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

    problems: Count | None  # of each test split, before and after; null: all
    seed: NoneOrMore  # of these problems; never the run's
    samples: Count  # sampled responses per problem, beside the greedy one
    samples_of: Mapping[str, int]  # of tests, by name, that have another number of samples
    temperature: Positive  # of the sampled responses
    top_p: Mass
    top_k: NoneOrMore  # 0: all
    response_limit: Count | None  # tokens; null: as in training
    every: NoneOrMore  # steps between looks at the validation split; 0: never
    validation_problems: Count
    batch: Count  # responses generated at once
    verdict_seconds: Positive  # after which a verdict that has not come is that the response is wrong

    @property
    def sampling(self) -> Sampling:
        """The law of sampled responses."""
        return Sampling(self.temperature, self.top_p, self.top_k)

    def number(self, size: int | None) -> int:
        """How many problems of a split that has so many."""
        if self.problems is None and size is None:
            raise ValueError("evaluation.problems must be a number: this task has no end of problems")
        return min(known for known in (self.problems, size) if known is not None)


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
