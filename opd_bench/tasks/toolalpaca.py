"""toolalpaca: which functions of a described tool to call, in which order and with which arguments.

    Sky                                                        Action: getWeather
    getWeather: The weather of a city.                         Action Input: {"city": "Oslo"}
    Parameters: {"city": "Required. string."}
    Instruction: Is it cold in Oslo ?                          correct: function 1, arguments 1

A call is two lines; what else is said does not count. All calls must be those of the reference, one after the other.
Arguments are compared by value: 2 is 2.0 and not "2", blanks around text don't matter, and an argument that is "" or
null is as good as absent. Any other argument too many makes a call wrong. `function` is the share of calls with the
right name, `arguments` of those that are right altogether, both of as many calls as the longer of the two lists has.

The reference of a training instruction is what ToolAlpaca's own agent did, without looking up details. An instruction
is left out if its calls can't be known beforehand: "${…}" stands for the result of an earlier one, "[Optional]" for a
choice; and if they are no JSON.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from opd_bench.tasks.base import Problem, Verdict
from opd_bench.tasks.dataset import Dataset, Place, Row, text

CALL = re.compile(r"^[^\S\n]*Action:([^\n]*)\n\s*Action Input:\s*", re.MULTILINE)
HEAD = re.compile(r"^[^\S\n]*Action:", re.MULTILINE)
DECODER = json.JSONDecoder()


class Call(NamedTuple):
    """Calls are equal if nothing that matters differs."""

    name: str
    arguments: str

    def __str__(self) -> str:
        return f"Action: {self.name}\nAction Input: {self.arguments}"


class ToolAlpaca(Dataset):
    """A row is a tool with many instructions."""

    name = "toolalpaca"
    version = "1"
    places = MappingProxyType(
        {
            "train": Place("toolalpaca/train_data.json", None),
            "test": Place("toolalpaca/eval_simulated.json", None),
        }
    )

    def cases(self, row: Row, split: str) -> Iterable[Row]:
        """Instructions with their calls; none if ToolAlpaca could not describe the tool's functions."""
        if row.get("Function_Description", "") is None:
            return
        tool = f"{text(row, 'Name')}\n\n{text(row, 'NLDocumentation')}"
        for instruction, calls in _golden(row) if "Golden_Answers" in row else _done(row):
            yield {"tool": tool, "instruction": instruction, "calls": calls}

    def read(self, row: Row) -> Problem | None:
        """An instruction below what the tool is."""
        calls = [_reference(action, arguments) for action, arguments in row["calls"]]
        if not calls or None in calls:
            return None
        instruction, _, _ = text(row, "instruction").partition("\nHint: ")
        prompt = f"{row['tool']}\n\nInstruction: {instruction}"
        return Problem(prompt, json.dumps(calls, ensure_ascii=False), "\n".join(map(str, calls)))

    def verdict(self, problem: Problem, response: str, finished: bool) -> Verdict:
        """Correct if the calls are those of the answer."""
        wanted, said = [Call(*call) for call in json.loads(problem.answer)], calls_of(response)
        pairs, longer = list(zip(wanted, said, strict=False)), max(len(wanted), len(said))
        scores = {
            "function": sum(one.name == other.name for one, other in pairs) / longer,
            "arguments": sum(one == other for one, other in pairs) / longer,
        }
        answer = "\n".join(map(str, said))
        return Verdict(correct=said == wanted, formatted=bool(said), answer=answer, scores=scores)


def calls_of(response: str) -> Sequence[Call]:
    """All calls in a response, none if one of them can't be read."""
    calls = []
    for match in CALL.finditer(response):
        try:
            arguments, end = DECODER.raw_decode(response, match.end())
            calls.append(_call(match[1], arguments))
        except (ValueError, RecursionError):
            return []
        if response[end:].partition("\n")[0].strip():
            return []
    return calls if len(calls) == len(HEAD.findall(response)) else []


def _golden(row: Row) -> Iterable[tuple[Any, list[tuple[str, str]]]]:
    for instruction, calls in zip(row["Instructions"], row["Golden_Answers"], strict=True):
        yield instruction, [(text(call, "Action"), text(call, "Action_Input")) for call in calls]


def _done(row: Row) -> Iterable[tuple[Any, list[tuple[str, str]]]]:
    for instance in row["Instances"]:
        steps = [step[0] for step in instance.get("intermediate_steps") or []]
        calls = [(str(step[0]), str(step[1])) for step in steps if step[0] != "getDetails"]
        yield instance.get("input"), calls


def _reference(action: str, arguments: str) -> Call | None:
    """None if nothing that is written beforehand could be it."""
    if action.startswith("[") or "${" in arguments:
        return None
    try:
        return _call(action, json.loads(arguments))
    except (ValueError, RecursionError):
        return None


def _call(name: str, arguments: Any) -> Call:
    if not isinstance(arguments, Mapping):
        raise ValueError("arguments have names")
    given = {key: value for key, value in _plain(arguments).items() if value not in ("", None)}
    return Call(name.strip(), json.dumps(given, sort_keys=True, ensure_ascii=False))


def _plain(value: Any) -> Any:
    """Equal values alike."""
    if isinstance(value, Mapping):
        return {key.strip(): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.strip() if isinstance(value, str) else value
