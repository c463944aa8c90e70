"""Curves as tables of pyarrow, pandas and polars, from the service itself."""

from __future__ import annotations

import json
import sys

import pytest

from profiler_service.distribution import Extra, MissingExtraError, install_command
from profiler_service.errors import UnknownCurveError
from tests.api.conftest import HOST, keep_curve
from tests.api.curves import PLATFORM, square, stairs
from tests.client.conftest import Make
from tests.client.test_real_service import RealService, real

__all__ = ["real"]

METHODS = ("get_curve_arrow", "get_curve_pandas", "get_curve_polars")


def test_every_library_has_the_same_table(make: Make, real: RealService) -> None:
    # 3 to 5 on both axes, steps of 4: only (4,4) is fast; (5,5) failed.
    curve_id = keep_curve(real.worker.store, square(3, 5), stairs(4), failing=[(5, 5)])
    client = make(real.url)
    arrow, pandas, polars = (getattr(client, name)(curve_id) for name in METHODS)
    names = arrow.column_names
    assert names[:3] == ["out_features", "in_features", "latency_s"]
    assert list(pandas.columns) == polars.columns == names
    rows = arrow.to_pylist()
    assert len(rows) == 8
    assert (rows[0]["latency_s"], rows[0]["status"]) == (pytest.approx(2.006e-3), "dominated")
    assert rows[0]["rival_out_features"] == 4
    assert rows[4]["rival_out_features"] is None  # nothing dominates (4,4)
    assert polars.to_dicts() == rows
    assert pandas["latency_s"].tolist() == [row["latency_s"] for row in rows]
    assert pandas["status"].tolist() == [row["status"] for row in rows]
    assert pandas["rival_out_features"].isna().tolist() == [
        row["rival_out_features"] is None for row in rows
    ]


def test_a_table_says_where_it_is_from(make: Make, real: RealService) -> None:
    curve_id = keep_curve(real.worker.store, square(3, 5), stairs(4))
    client = make(real.url)
    about = client.get_curve_pandas(curve_id).attrs["lhp_curve"]
    assert about == json.loads(client.get_curve_arrow(curve_id).schema.metadata[b"lhp_curve"])
    assert (about["curve_id"], about["host"]) == (curve_id, HOST)
    assert about["platform_key"] == PLATFORM.key


def test_fewer_points_can_be_asked_for(make: Make, real: RealService) -> None:
    curve_id = keep_curve(real.worker.store, square(1, 40), stairs(8))
    client = make(real.url)
    whole, fewer = client.get_curve(curve_id), client.get_curve(curve_id, max_points=400)
    assert len(whole.points.dims) == 1600
    assert fewer.num_left_out == 1600 - len(fewer.points.dims) > 1000
    for name in METHODS:
        assert len(getattr(client, name)(curve_id, max_points=400)) == len(fewer.points.dims)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("get_curve_arrow", "pyarrow", "arrow"),
        ("get_curve_pandas", "pandas", "pandas"),
        ("get_curve_pandas", "pyarrow", "pandas"),
        ("get_curve_polars", "polars", "polars"),
    ],
)
def test_without_its_library_nothing_is_asked_and_the_extra_is_named(
    make: Make,
    closed_url: str,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    module: str,
    extra: Extra,
) -> None:
    for loaded in [each for each in sys.modules if each.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)  # import then says that there is none
    with pytest.raises(MissingExtraError, match=f"{name} needs {module}") as raised:
        getattr(make(closed_url), name)("c7")
    assert raised.value.hint == install_command(extra)


@pytest.mark.parametrize("name", METHODS)
def test_problems_are_raised_as_always(make: Make, real: RealService, name: str) -> None:
    with pytest.raises(UnknownCurveError):
        getattr(make(real.url), name)("nothing")
