"""The workload of the user's own code: free names, one key, nothing that hosts measure."""

from __future__ import annotations

import pytest

from profiler_service.errors import InvalidDimsError, InvalidWorkloadError
from profiler_service.grid import MAX_DIM
from profiler_service.kinds import CALLABLE, get_workload_kind, workload_kinds
from profiler_service.plan.spec import SweepSpec
from profiler_service.plan.window import build_window, find_refused

GIVEN = {"function": "my_models:build", "source": "0123456789ab", "vary": "hidden"}


def test_its_axes_are_the_arguments_that_vary() -> None:
    workload = CALLABLE.describe({**GIVEN, "vary": "hidden, layers", "heads": "6"})
    assert workload.axes == ("hidden", "layers")
    assert workload.key == (
        "callable[function=my_models:build,heads=6,source=0123456789ab,vary=hidden,layers]"
    )
    # Texts, as an address has them, and numbers are the same; so is any order.
    assert CALLABLE.describe({"heads": 6, **GIVEN, "vary": "hidden,layers"}) == workload


def test_the_builder_gets_the_arguments_by_name() -> None:
    workload = CALLABLE.describe({**GIVEN, "layers": 0})
    assert CALLABLE.unfold((300,), dict(workload.params)) == (
        (),
        {"function": "my_models:build", "source": "0123456789ab", "layers": 0, "hidden": 300},
    )


def test_a_sweep_of_it_is_rebuilt_from_what_is_stored() -> None:
    workload = CALLABLE.describe({**GIVEN, "layers": 6})
    window = build_window(workload, (300,), max_growth=0.125)
    assert window.first == (300,) and window.last == (337,)  # an eighth above
    assert not len(find_refused(workload, window))
    spec = SweepSpec(workload=workload, mode="race", grid=window)
    assert SweepSpec.from_json(spec.to_json()) == spec


def test_hosts_never_measure_it() -> None:
    assert CALLABLE.name not in workload_kinds()
    assert get_workload_kind("callable") is CALLABLE


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"function": "os"}, "'os' doesn't name a function"),
        ({"function": "my models:build"}, "doesn't name a function"),
        ({"function": "m:f(1)"}, "doesn't name a function"),
        ({"function": "../m:f"}, "doesn't name a function"),
        ({"function": ""}, "no function is named"),
        ({"function": "m:" + "f" * 200}, "is no function"),
        ({"source": "0123"}, "doesn't say which text"),
        ({"source": "0123456789AB"}, "doesn't say which text"),
        ({"vary": "hidden,hidden"}, "names something twice"),
        ({"vary": ""}, "'' is no name of an argument"),
        ({"vary": "2hidden"}, "is no name of an argument"),
        ({"vary": "class"}, "is no name of an argument"),
        ({"vary": "h" * 65}, "is no name of an argument"),
        ({"vary": "größe"}, "is no name of an argument"),
        ({"vary": ",".join("abcdefghijklmnopq")}, "more than 16"),
        ({"vary": "wait"}, "'wait' can't be an argument here"),
        ({"dtype": "3"}, "'dtype' can't be an argument here"),
        ({"hidden": "3"}, "hidden varies, and can't have a value as well"),
        ({"layers": "six"}, "layers='six' is not a whole number"),
        ({"layers": "-1"}, "is not a whole number"),
        ({"layers": str(MAX_DIM + 1)}, "outside 0 to"),
        ({f"a{number}": "1" for number in range(33)}, "33 arguments have a value"),
    ],
)
def test_anything_else_is_refused(given: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidWorkloadError) as refusal:
        CALLABLE.describe({**GIVEN, **given})
    assert says in str(refusal.value)
    assert refusal.value.hint


@pytest.mark.parametrize("missing", ["function", "source", "vary"])
def test_what_every_one_has_must_be_given(missing: str) -> None:
    with pytest.raises(InvalidWorkloadError) as refusal:
        CALLABLE.describe({name: value for name, value in GIVEN.items() if name != missing})
    assert refusal.value.hint


def test_one_dim_an_axis() -> None:
    workload = CALLABLE.describe(GIVEN)
    assert workload.check_dims((300,)) == (300,)
    with pytest.raises(InvalidDimsError, match=r"1 axis \(hidden\), but 2 dims"):
        workload.check_dims((300, 6))
