"""How both models of a run are read, made into a pair."""

from typing import NamedTuple

import torch

from opd_bench.models.network import frozen
from opd_bench.models.pair import Pair, Side, paired
from opd_bench.models.reading import StudentReading, TeacherReading
from opd_bench.models.words import Rendering


class Readers(NamedTuple):
    """The student's, the teacher's, and how both read questions."""

    student: StudentReading
    teacher: TeacherReading
    rendering: Rendering

    def pair(self, student: str, teacher: str, teacher_scale: float, device: torch.device) -> Pair:
        """Both models by name, the student's weights as they are, the teacher's frozen, checked against each other."""
        mine = Side(student, self.student.model(student), self.student.tokenizer(student))
        theirs = Side(teacher, frozen(self.teacher.teacher(teacher, device)), self.teacher.tokenizer(teacher))
        found = paired(mine, theirs, self.rendering, teacher_scale)
        rests = device if self.teacher.rests_on_cpu else None
        return found._replace(teacher=found.teacher._replace(rests_from=rests))
