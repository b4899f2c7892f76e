"""Answers that are read off and compared: equal ones, unequal ones, and ones that are meant to do harm."""

import random
import time

import pytest

from opd_bench.tasks.answers import boxed, same
from opd_bench.tasks.bounds import excess


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So it is \boxed{5}.", "5"),
        (r"\boxed{4} and then \boxed{5}", "5"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{[0, 1\}}", r"[0, 1\}"),
        (r"\boxed{x = \boxed{5}}", "5"),
        (r"\boxed{ 5 }", "5"),
        (r"\boxed {5}", "5"),
        ("\\boxed{\n5\n}", "5"),
        (r"\fbox{5}", "5"),
        (r"\\boxed{5}", "5"),
        (r"$\boxed 5$", "5"),
        (r"$\boxed\frac{1}{2}$ or so", r"\frac{1}{2}"),
        (r"{\boxed 5}", "5"),
        (r"\boxed{5} and put it in \boxed{}", "5"),
        (r"\boxed{5} and then \boxed{6", "5"),
        (r"}} {{ \boxed{5}", "5"),
        (r"\boxed{ {5 }", ""),
        (r"\boxed{5", ""),
        (r"\boxed{}", ""),
        (r"\boxedfoo{5}", ""),
        (r"\boxed", ""),
        ("The answer is 5.", ""),
        ("#### 5", ""),
        ("", ""),
    ],
)
def test_the_last_box_that_is_closed_and_not_empty_counts(text, answer):
    assert boxed(text) == answer


EQUAL = [
    ("5", "5"),
    ("5", "5."),
    ("5", "5.0"),
    ("5", "+5"),
    ("5", "05"),
    ("5", r"\boxed{5}"),
    ("5", "x=5"),
    ("x=5", "5"),
    ("5", "6-1=5"),
    ("1/2", "0.5"),
    ("1/2", ".5"),
    (r"\frac{1}{2}", r"\dfrac12"),
    (r"\frac{1}{2}", "0.5"),
    (r"\frac43", r"\frac{4}{3}"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"),
    (r"1\frac{4}{5}", r"\frac95"),
    (r"137 \frac{1}{2}", "137.5"),
    (r"\frac{1}{3}", "0.333333"),
    ("1000", "1,000"),
    ("1,234,567.5", "1234567.5"),
    (r"11,\! 111,\! 111,\! 100", "11111111100"),
    (r"10,\!080", r"10\,080"),
    ("1000", r"\$1{,}000"),
    ("18", "$18"),
    ("18.9", r"\$18.90"),
    ("18", "18 dollars"),
    ("50", r"50\%"),
    (r"50\%", "50"),
    (r"50\%", "0.5"),
    ("0.5", r"50\%"),
    ("90", r"90^\circ"),
    (r"90^{\circ}", "90"),
    (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}"),
    (r"864 \mbox{ inches}^2", "864"),
    (r"15\mbox{ cm}^2", "15 cm^2"),
    (r"5.4 \text{ cents}", "5.4"),
    (r"\text{(B)}", "B"),
    ("B", "(B)"),
    (r"\text{Evelyn}", "Evelyn"),
    (r"\text{east}", "East"),
    (r"\text{no solution}", "No solution"),
    ("(1,2)", r"\left( 1, 2 \right)"),
    ("(1,2)", "(1, 4/2)"),
    ("(1,2)", "1,2"),
    ("1,-2", "-2,1"),
    ("1,2", "1 and 2"),
    ("x=1,x=2", "1,2"),
    (r"\pm 3", "3,-3"),
    (r"\{1,2\}", r"\{2,1\}"),
    (r"\emptyset", r"\varnothing"),
    ("[1,2)", r"\left[1,\frac{4}{2}\right)"),
    (r"(-\infty,2)\cup(3,\infty)", r"(3,+\infty)\cup(-\infty,2)"),
    (r"x \in [-2,7]", "[-2,7]"),
    (r"\sqrt{8}", r"2\sqrt2"),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
    ("18+2\\pi", r"2(9+\pi)"),
    ("6 - 5i", "-5i+6"),
    ("2^{10}", "1024"),
    ("4!", "24"),
    (r"\binom{5}{2}", "10"),
    (".0000672", "6.72e-5"),
    (".0000672", r"6.72 \times 10^{-5}"),
    ("(x+1)^2", "x^2+2x+1"),
    (r"\sqrt{x^2}", "|x|"),
    (r"\cot x", r"\frac{\cos x}{\sin x}"),
    ("y = 2x + 3", "y=3+2x"),
    ("y = 2x + 3", "2x+3"),
    ("f(x)=x+1", "x+1"),
    ("5x - 7y + 4 = 0", "10x-14y+8=0"),
    ("x<3", "3>x"),
    ("x<3", "-x>-3"),
    ("1<x<5", "1 < x < 5.0"),
    ("52_8", "52_{8}"),
    ("52_8", "52"),
    (r"\begin{pmatrix} -1/3 \\ 2 \end{pmatrix}", r"\begin{bmatrix} -\frac13 \\ 2 \end{bmatrix}"),
    ("−5", "-5"),
]
UNEQUAL = [
    ("5", ""),
    ("5", "-5"),
    ("5", "5,6"),
    ("5,6", "5"),
    ("5", "5x"),
    ("5", "5m"),
    ("x=5", "y=5"),
    ("1/2", "0.51"),
    ("1/2", "-1/2"),
    ("1/3", "0.333"),
    ("\\pi", "3.14159"),
    ("1234", "12,34"),
    ("1000000", "1000001"),
    ("12345678.1", "12345678.2"),
    ("0.0000001", "0.0000002"),
    ("1/10000000", "2/10000000"),
    ("9.11e-31", "9.109e-31"),
    ("0.5", "50"),
    ("50", "0.5"),
    (r"50\%", "5"),
    ("B", "C"),
    (r"\text{even}", "neve"),
    (r"\text{east}", "west"),
    ("(1,2)", "(2,1)"),
    ("(2,1)", "1,2"),
    ("1,-2", "(-2,1)"),
    ("(1,2)", "[1,2]"),
    ("[1,2)", "[1,2]"),
    (r"\{1,2\}", r"\{1,2,3\}"),
    (r"(-\infty,2)", r"(-\infty,2]"),
    (
        r"x \in [-2,7]",
        r"-2\le x\le 7",
    ),  # an interval and an inequality are two ways to answer, and questions ask for one
    ("x=1,y=2", "x=2,y=1"),
    (r"\pm 3", "3"),
    (r"\sqrt{8}", r"\sqrt{7}"),
    ("6 - 5i", "6+5i"),
    ("|x|", "x"),
    ("2x", "2y"),
    ("x^2+1", "t^2+1"),
    ("(x+1)^{20}", "(x+2)^{20}"),
    ("y=2x", "y=3x"),
    ("x<3", "x>3"),
    (r"x \le 3", "x<3"),
    ("x=3", r"x \ne 3"),
    ("1<x<5", "1<x<6"),
    ("52_8", "52_7"),
    ("42", "52_8"),
    ("3^{2024}", "3^{2023}"),
    (r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}", r"\begin{pmatrix} 1 & 0 \\ 0 & 2 \end{pmatrix}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}"),
]


@pytest.mark.parametrize(("gold", "answer"), EQUAL)
def test_equal_answers(gold, answer):
    assert same(answer, gold) == (True, "")


@pytest.mark.parametrize(("gold", "answer"), UNEQUAL)
def test_unequal_answers(gold, answer):
    assert same(answer, gold) == (False, "")


def test_numbers_may_be_right_up_to_a_tolerance():
    assert same("30.2", "30", 0.01)[0]
    assert same(r"3.02 \times 10^{1}", "30", 0.01)[0]
    assert same(r"\sqrt{911}", "30", 0.01)[0]
    assert same("6.67e-27", r"6.70 \times 10^{-27}", 0.01)[0]
    assert not same("30.4", "30", 0.01)[0]
    assert not same("1.7e-27", "1.6e-27", 0.01)[0]
    assert not same("-30", "30", 0.01)[0]
    assert not same("2.001x", "2x", 0.01)[0]
    assert not same("(1,2.001)", "[1,2]", 0.01)[0]
    assert not same("30.2", "30")[0]


TOO_LARGE = [
    "9^{9^{9^9}}",
    "10^{10^{10}}",
    "(((10^{99})^{99})^{99})^{99}",
    "2^{-10^{9}}",
    r"\sqrt[10^{10^{10}}]{2}",
    "(1, 10^{10^{10}})",
    r"\{10^{10^{10}}, 1\}",
    "x<10^{10^{10}}",
    r"\frac{1}{10^{10^{10}}}",
    r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}^{1000000000}",
    r"\lfloor 10^{10^{10}} \rfloor",
    r"e^{e^{e^{e^{e}}}}",
    "1E99999999",
    "1E999999999999",
    "2^{i10^{9}}",
    "100000!",
    "((5!)!)!",
    "5!!!",
    "(x+1)!!",
    "999!^{999}",
    r"\binom{100000000}{50000000}",
    r"\gcd(10^{9999999}, 3)",
    r"\exp(10^{2999})",
    r"\Gamma(10^{9})",
    "(10000000)_{5}",
    r"\sum_{n=1}^{10^9} n^n",
    r"\int_0^1 e^{x^{x^x}} dx",
    r"\lim_{x \to 0} \frac{\sin x}{x}",
    "eye(100000000)",
    "(x+1)^{1000}",
    "(x+y+z+w)^{100}",
    "(x+y)^{20}(y+z)^{20}(z+w)^{20}",
    "2/3/" * 70 + "1",
    "1/1/1/1/1/1/1/1/1/1/1/1",
    "(" * 100 + "1" + ")" * 100,
    "{" * 100 + "1" + "}" * 100,
    r"\frac{" * 1000 + "1" + "}{2}" * 1000,
    r"\sqrt{" * 9 + "2" + "}" * 9,
    "1" * 301,
    "1" * 100_000,
    "1," * 60 + "1",
    "&" * 60,
]
HARMLESS = [
    "",
    "\x00",
    "5\x00",
    "\ud800",
    "\ud83d5",
    "😀" * 50,
    "\\" * 100_000,
    "\\boxed{" * 20_000,
    "\\boxed{1" * 20_000 + "}" * 20_000,
    "\\boxed" + " " * 100_000,
    "{{{{",
    "}}}}",
    "$" * 50,
    "^" * 50,
    "_" * 50,
    "!",
    "^^^1",
    "1^" * 50,
    "|" * 40,
    "-" * 200 + "1",
    r"\%" * 100,
    r"\left(",
    r"\begin{pmatrix}",
    "1,2;3,4",
    "1.2.3",
    "-.",
    "nan",
    "0/0",
    r"\frac{1}{0}",
    r"\infty-\infty",
    "10000^{200}",
    "999!^{0}",
    r"\tan(10^{900})",
    r"\log_{10^{100}}(3^{1000})",
    r"\frac{x^{99}-1}{x^{98}-1}",
    r"\frac{1}{x^{50}+y^{50}+1}+\frac{1}{x^{49}+z^{49}+1}",
    "+".join(rf"\sin({n}x)\cos({n + 1}y)" for n in range(1, 14)),
    "{" * 6 + "1" + "}" * 6,
    "+".join(rf"\sqrt[{n}]{{{n}}}" for n in (2, 3, 5, 7, 11, 13)),
    r"\tan(\tan(\tan(\tan(x))))",
    "x^{30}+17x^{11}-3x+5=0",
    r"\sin(x^5)+e^{x^3}+\log x=3",
    "x^{x^{x}}=2",
    r"\cup".join(f"({n},{n + 1})" for n in range(30)),
    "[" * 6 + "1" + "]" * 6,
    "x=y=z=1=2=3",
    r"\arctan(i+\frac{z*232}{9}+((x)^{z z})^{i})",
]
GOLDS = ["7", r"\frac{\sqrt3}{2}", "x^2+y^2=1", "(1,2)", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\sin x", r"x\le 3"]


@pytest.mark.parametrize("answer", TOO_LARGE, ids=lambda text: text[:20])
def test_what_is_too_large_is_wrong_with_a_reason_and_never_computed(answer):
    start = time.process_time()
    for text in (answer, boxed(rf"\boxed{{{answer}}}")):
        correct, reason = same(text, "7")
        assert not correct
        assert reason.endswith("compared as text only")
    assert time.process_time() - start < 0.5
    assert same(answer, answer) == (True, "")


def test_the_right_answer_has_the_same_bounds():
    assert same("5", "10^{10^{10}}") == (False, excess("10^{10^{10}}"))


@pytest.mark.parametrize("answer", HARMLESS, ids=lambda text: ascii(text[:20]))
def test_garbage_and_hard_expressions_are_wrong_in_no_time(answer):
    same(r"\frac{x}{2}", r"\sin(x)+\{1\}")  # what is loaded once is no part of it
    for gold in GOLDS:
        start = time.process_time()
        assert not same(answer, gold)[0]
        assert not same(boxed(rf"\boxed{{{answer}}}"), gold)[0]
        assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "answer",
    [
        "2^{3000}",
        "3^{2024}",
        "999",
        "100!",
        "(x+1)^{30}",
        "e^{-x^2/2}",
        "x^{1000}",
        "a_1+a_2",
        r"\binom{10}{3}",
        "2^{n+1}",
    ],
)
def test_usual_answers_are_within_the_bounds(answer):
    assert excess(answer) == ""


def test_random_text_neither_raises_nor_is_right():
    draw = random.Random(0)
    pieces = [
        *"0123456789xyzn+-*/^(){}[]=,!|.<>",
        r"\frac{",
        r"\sqrt{",
        r"\sin ",
        r"\pi",
        "^{",
        "}{",
        r"\cup ",
        r"\text{",
    ]
    for _ in range(300):
        text = "".join(draw.choice(pieces) for _ in range(draw.randint(1, 40)))
        assert not same(text, "77777")[0]
        boxed(text)
