"""What every source is set by, one class each. Drawing, as `source.Source` defines it, comes with the engine."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from opd_bench.maths.schedules import cosine
from opd_bench.settings import Count, Settings, Share
from opd_bench.tokens import Origin


@dataclass(kw_only=True, eq=False)
class Student(Settings):
    """The student writes everything, at T = 1 with nothing cut off."""

    origins: ClassVar = (Origin.STUDENT,)


@dataclass(kw_only=True, eq=False)
class Teacher(Settings):
    """The teacher's answers, sampled once at T = 1 and cached."""

    origins: ClassVar = (Origin.TEACHER,)


@dataclass(kw_only=True, eq=False)
class Data(Settings):
    """Reference answers."""

    origins: ClassVar = (Origin.DATA,)


@dataclass(kw_only=True, eq=False)
class Coin(Settings):
    """GKD's λ: one coin per batch, the student's tokens with probability `student_share`, else the other's."""

    student_share: Share
    otherwise: Literal["teacher", "data"]

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The student and the other writer."""
        return Origin.STUDENT, Origin[self.otherwise.upper()]


@dataclass(kw_only=True, eq=False)
class TeacherPrefix(Settings):
    """TrOPD's guidance: extra samples begin with the head of a teacher's answer and the student goes on from there.

    The head is ⌊α L⌋ tokens of an answer of L (ratio), or min(L, ⌊α L_max⌋) (cap), α = (1 + cos π·progress)/2; the
    teacher's end token is dropped and at least one token is left to the student.
    """

    length: Literal["ratio", "cap"]
    extra: Share  # samples with a prefix, as a share of the ordinary rollouts, in addition to them

    origins: ClassVar = (Origin.STUDENT, Origin.TEACHER)

    @staticmethod
    def share(progress: float) -> float:
        """α at this progress."""
        return cosine(1.0, 0.0, progress)


@dataclass(kw_only=True, eq=False)
class Interleaved(Settings):
    """SKD: the student proposes blocks; from the first token outside the teacher's top k the teacher takes over."""

    k: Count
    block: Count

    origins: ClassVar = (Origin.STUDENT, Origin.TEACHER)


@dataclass(kw_only=True, eq=False)
class Mixture(Settings):
    """MiniLLM: every token from αq + (1 − α)p; `behaviour_logp` is that mixture's."""

    alpha: Share

    origins: ClassVar = (Origin.STUDENT, Origin.TEACHER)
