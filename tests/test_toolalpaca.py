"""Calls of functions: read off a response, compared by value, and references that can't be known left out."""

import json
import time

import pytest
import yaml

from opd_bench.configs import conf_dir, made
from opd_bench.tasks.dataset import DATA
from opd_bench.tasks.toolalpaca import calls_of

CONFIG = yaml.safe_load((conf_dir() / "task" / "toolalpaca.yaml").read_text())
HALL, ON = '{"room": "hall"}', '{"on": true}'
GET, SET = {"Action": "getLamp", "Action_Input": HALL}, {"Action": "setLamp", "Action_Input": ON}


def tool(name: str, **changes) -> dict:
    """A row in the public format, without the fields that are not read."""
    row = {"Name": name, "Description": "Lamps of a house", "Function_Description": {"getLamp": "", "components": ""}}
    row["NLDocumentation"] = 'getLamp: Whether a lamp is on.\nParameters: {"room": "Required. string."}\n'
    row["Instructions"] = ["Is the lamp in the hall on?", "Look at it and switch it on."]
    row["Golden_Answers"] = [[GET], [GET, SET]]
    return {key: value for key, value in (row | changes).items() if value != "absent"}


def instance(*steps, **changes) -> dict:
    return {"input": "Is it on?\nHint: ask", "output": "Yes.", "intermediate_steps": [*steps]} | changes


def step(action: str, arguments: str) -> list:
    return [[action, arguments, f" think\nAction: {action}\nAction Input: {arguments}"], "Status Code: 200"]


@pytest.fixture
def task(tmp_path):
    def written(tools, file="eval_simulated.json", **changes):
        (tmp_path / file).write_text(json.dumps(tools))
        return made(CONFIG | {"source": str(tmp_path)} | changes)

    return written


def called(*calls) -> str:
    return "\n".join(f"Action: {name}\nAction Input: {arguments}" for name, arguments in calls)


def test_every_instruction_is_a_problem_below_its_tool(task):
    found = task([tool("Lamps"), tool("Bulbs")])
    problems = found.problems("test")
    assert len({problem.id for problem in problems}) == found.size("test") == 4
    assert problems[1].prompt.startswith("Lamps\n\ngetLamp: Whether a lamp is on.\nParameters:")
    assert problems[1].prompt.endswith('"}\n\nInstruction: Look at it and switch it on.')
    assert problems[1].solution == called(("getLamp", HALL), ("setLamp", ON))
    for index in range(4):
        problem = found.problem("test", 0, index)
        assert problem.prompt.endswith("Action Input: its arguments as one JSON object")
        verdict = found.verdict(problem, f"Let me see.\n{problem.solution}\n", True)
        assert (verdict.correct, verdict.formatted) == (True, True)
        assert verdict.scores == {"function": 1, "arguments": 1}


@pytest.mark.parametrize(
    ("wanted", "said", "right"),
    [
        ('{"a": 1, "b": "x"}', '{"b": "x", "a": 1}', True),
        ('{"a": 1}', '{"a": 1.0}', True),
        ('{"a": 1.5}', '{"a": 15e-1}', True),
        ('{"a": " x"}', '{"a ": "x\\n"}', True),
        ('{"a": "é"}', '{"a": "\\u00e9"}', True),
        ('{"a": {"b": [1, {"c": 2.0}]}}', '{\n "a": {"b": [1, {"c": 2}]}\n}', True),
        ('{"a": 1, "b": "", "c": null}', '{"a": 1}', True),
        ('{"a": 1}', '{"a": 1, "b": " "}', True),
        ("{}", "{}", True),
        ('{"a": 1}', '{"a": "1"}', False),
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": 0}', '{"a": false}', False),
        ('{"a": 0}', "{}", False),
        ('{"a": false}', "{}", False),
        ('{"a": 1}', '{"a": 1, "page": 1}', False),
        ('{"a": 1}', "{}", False),
        ('{"a": "x"}', '{"a": "X"}', False),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', False),
        ('{"a": 1e400}', '{"a": 2}', False),
    ],
)
def test_arguments_are_compared_by_value(task, wanted, said, right):
    answer = [[{"Action": "getLamp", "Action_Input": wanted}]]
    found = task([tool("Lamps", Instructions=["Do."], Golden_Answers=answer)])
    verdict = found.verdict(found.problem("test", 0, 0), called(("getLamp", said)), True)
    assert (verdict.correct, verdict.formatted) == (right, True)
    assert verdict.scores == {"function": 1, "arguments": float(right)}


@pytest.mark.parametrize(
    ("response", "formatted", "function", "arguments"),
    [
        (called(("getLamp", HALL), ("setLamp", ON)), True, 1, 1),
        (f"  Action:  getLamp  \n\n  Action Input:\n{HALL}  \nthen\n{called(('setLamp', ON))}", True, 1, 1),
        (called(("setLamp", ON), ("getLamp", HALL)), True, 0, 0),
        (called(("getLamp", HALL)), True, 0.5, 0.5),
        (called(*3 * [("getLamp", HALL)]), True, 1 / 3, 1 / 3),
        (called(("getLamp", '{"room": "attic"}'), ("setLamp", ON)), True, 1, 0.5),
        (called(("GetLamp", HALL), ("setLamp", ON)), True, 0.5, 0.5),
        (called(("getLamp", HALL), ("setLamp", '{"on": true')), False, 0, 0),
        (called(("getLamp", HALL), ("setLamp", '{"on": true} or so')), False, 0, 0),
        (called(("getLamp", HALL), ("setLamp", "[1]")), False, 0, 0),
        (called(("getLamp", HALL), ("setLamp", "none")), False, 0, 0),
        (called(("getLamp", HALL)) + "\nAction: setLamp\n", False, 0, 0),
        ("Action: getLamp Action Input: {}", False, 0, 0),
        ("I would look at the lamp.", False, 0, 0),
        ("", False, 0, 0),
    ],
)  # fmt: skip
def test_calls_must_be_the_same_in_the_same_order(task, response, formatted, function, arguments):
    found = task([tool("Lamps")])
    problem = next(problem for problem in found.problems("test") if "switch" in problem.prompt)
    verdict = found.verdict(problem, response, True)
    assert (verdict.correct, verdict.formatted) == (arguments == 1, formatted)
    assert verdict.scores == pytest.approx({"function": function, "arguments": arguments})
    assert bool(verdict.answer) == formatted


@pytest.mark.parametrize(
    "piece", ["[", '{"a":', "{", '{"a": "', "Action:", "Action: a\n", "Action: a\nAction Input: ", " ", "\n", "9",
              called(("a", "{")) + "\n", called(("a", "{}")) + "\n"],
)  # fmt: skip
def test_a_megabyte_of_anything_is_read_at_once(piece):
    start = time.monotonic()
    calls_of(piece * (1_000_000 // len(piece)))
    calls_of("Action: a\nAction Input: " + piece * (1_000_000 // len(piece)))
    calls_of('Action: a\nAction Input: {"a": ' + piece * (1_000_000 // len(piece)))
    assert time.monotonic() - start < 10


def test_nesting_without_end_is_no_call():
    for depth, count in ((100, 1), (5_000, 0), (100_000, 0)):
        assert len(calls_of(called(("a", f'{{"a": {depth * "["}{depth * "]"}}}')))) == count


def test_instructions_whose_calls_can_t_be_known_are_left_out(task):
    unknowable = ('{"id": ${id from getLamp}}', '{"id": "${id}"}', "no JSON", '["hall"]')
    golden = [[{"Action": "getLamp", "Action_Input": arguments}] for arguments in unknowable]
    golden += [[GET, {"Action": "[Optional]setLamp", "Action_Input": "{}"}], [], [GET]]
    found = task([tool("Lamps", Instructions=[f"Number {n}" for n in range(7)], Golden_Answers=golden)])
    assert [problem.prompt[-8:] for problem in found.problems("test")] == ["Number 6"]


def test_training_problems_are_what_the_agent_did(task):
    steps = [
        step("getDetails", '{"Question": "Which hall?"}'),
        step("getLamp", HALL),
        step("setLamp", "{}"),
    ]
    instances = [
        instance(*steps),
        instance(),
        {"error": "none"},
        instance(step("getDetails", "{}")),
        instance(step("x", "?")),
    ]
    rows = [tool("Lamps", Golden_Answers="absent", Instances=instances), tool("Broken", Function_Description=None)]
    found = task(rows, file="train_data.json", held_out=0)
    (problem,) = found.problems("train")
    assert problem.prompt.endswith("\n\nInstruction: Is it on?")
    assert problem.solution == called(("getLamp", HALL), ("setLamp", "{}"))
    many = [tool(f"Lamps {n}", Golden_Answers="absent", Instances=[instance(*steps)]) for n in range(10)]
    found = task(many, file="train_data.json", held_out=3)
    assert (found.size("train"), found.size("validation")) == (7, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Name": "absent"}, "it has no field 'Name'"),
        ({"NLDocumentation": None}, "it has no field 'NLDocumentation'"),
        ({"Instructions": "absent"}, "KeyError: 'Instructions'"),
        ({"Instructions": ["one"]}, "zip"),
        ({"Instructions": [None, "two"]}, "it has no field 'instruction'"),
        ({"Golden_Answers": "absent"}, "KeyError: 'Instances'"),
        ({"Golden_Answers": [[{"Action": "x"}], [GET]]}, "it has no field 'Action_Input'"),
        ({"Golden_Answers": [["getLamp"], [GET]]}, "AttributeError: 'str'"),
        ({"Golden_Answers": None}, "TypeError"),
    ],
)
def test_a_dirty_row_is_named(task, changes, message):
    with pytest.raises(ValueError, match=rf"toolalpaca: row 2 of the test split can't be read: {message}"):
        task([tool("Lamps"), tool("Bulbs", **changes)]).problems("test")


def test_the_data_are_looked_for_in_one_folder_and_never_on_the_hub(tmp_path, monkeypatch):
    data = tmp_path / "data" / "toolalpaca"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(DATA, str(data.parent))
    monkeypatch.setattr("socket.socket", None)
    with pytest.raises(
        ValueError, match=rf"it has no copy there; .* put one at \${DATA}/toolalpaca/eval_simulated.json"
    ):
        made(CONFIG).problems("test")
    data.mkdir(parents=True)
    (data / "eval_simulated.json").write_text(json.dumps([tool("Lamps")]))
    assert made(CONFIG).size("test") == 2
