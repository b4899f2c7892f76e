"""Methods by name, and what is said when a name or a value is wrong."""

import pytest

import opd_bench
from opd_bench import load_method, method_names
from opd_bench.estimators.tropd import TrOPD
from opd_bench.rollouts.sources import Student, TeacherPrefix
from opd_bench.settings import Bound


def test_a_method_is_an_estimator_and_a_source():
    estimator, source = load_method("tropd")
    assert isinstance(estimator, TrOPD)
    assert isinstance(source, TeacherPrefix)
    assert isinstance(load_method("tropd_no_prefix").source, Student)


def test_overrides_go_to_whichever_part_has_the_field():
    estimator, source = load_method("tropd", k=8, extra=0.5)
    assert (estimator.k, source.extra) == (8, 0.5)
    assert estimator.beta == load_method("tropd").estimator.beta == 0.001


def test_a_yaml_of_ones_own_loads_by_its_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "estimator: {_target_: opd_bench.estimators.vopd.VOPD, k: 3}\n"
        "source: {_target_: opd_bench.rollouts.sources.Student}\n"
    )
    assert load_method(str(path)).estimator.k == 3


STUDENT = "\nsource: {_target_: opd_bench.rollouts.sources.Student}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("estimator: {_target_: opd_bench.estimators.vopd.VOPD, k: 3}", "exactly the keys estimator and source"),
        (
            "estimator: {_target_: opd_bench.estimators.vopd.VOPD}" + STUDENT,
            "VOPD needs a value for field 'k'",
        ),
        (
            "estimator: {_target_: opd_bench.estimators.opd.OPD, k: 1}" + STUDENT,
            "OPD has no field 'k'",
        ),
        (
            "estimator: {_target_: opd_bench.rollouts.sources.Data}" + STUDENT,
            "Data is named as an estimator",
        ),
    ],
)
def test_a_wrong_yaml_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises((ValueError, TypeError), match=message):
        load_method(str(path))


def test_an_unknown_method_suggests_near_names_and_lists_all():
    with pytest.raises(ValueError, match="no method 'tropdd', did you mean tropd") as error:
        load_method("tropdd")
    assert all(name in str(error.value) for name in method_names())


def test_an_unknown_field_suggests_near_names():
    with pytest.raises(ValueError, match=r"method veto has no field 'bta', did you mean beta\?; it has beta, "):
        load_method("veto", bta=1)


def test_bounds_read_as_a_person_would_write_them():
    bounds = [Bound(0, 1), Bound(0, 1, strict=True), Bound(0), Bound(0, strict=True), Bound(high=0)]
    assert list(map(str, bounds)) == ["in [0, 1]", "in (0, 1)", "≥ 0", "> 0", "≤ 0"]


def test_unknown_public_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        opd_bench.nonsense  # noqa: B018
