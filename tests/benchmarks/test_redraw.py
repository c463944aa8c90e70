"""Curves drawn again from the data of `docs/results`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.figures import hysteresis
from benchmarks.figures.redraw import FIGURES, StoredFigure, read_curve, redraw
from benchmarks.png import shrink
from profiler_service.analysis.curve import PointStatus
from profiler_service.errors import InvalidRequestError
from tests.benchmarks.test_figures import curve

RESULTS = Path(__file__).parents[2] / "docs" / "results"
MATMUL = StoredFigure(kind="matmul")


def test_a_curve_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = curve()
    hysteresis.write("fig2", written, [], tmp_path)
    found = read_curve(tmp_path / "fig2.csv", MATMUL)
    for name in ("latency_s", "low_s", "high_s", "num_samples"):
        np.testing.assert_array_equal(getattr(found, name), getattr(written, name))
    # 14 is the largest size: nothing says that a larger one is slower.
    assert found.status.tolist() == [*written.status[:-1].tolist(), PointStatus.EDGE]
    assert found.answers.target.tolist() == written.answers.target.tolist()
    assert found.answers.find_rivals().tolist() == written.answers.find_rivals().tolist()
    np.testing.assert_allclose(found.answers.ratio, written.answers.ratio)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no curve over size"),
        ("width,latency_s,low_s,high_s,num_samples,status\n8,1,1,1,9,lhp\n", "no curve over size"),
        ("size,latency_s\n8,1\n", "no curve over size"),
        (
            "size,latency_s,low_s,high_s,num_samples,status\n8,1,1,1,9,lhp\n10,1,1,1,9,lhp\n",
            "leaves sizes out",
        ),
    ],
    ids=["empty", "another axis", "columns missing", "a size missing"],
)
def test_what_is_no_whole_curve_is_refused(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(text)
    with pytest.raises(InvalidRequestError, match=says):
        read_curve(path, MATMUL)


def test_pictures_and_reports_agree_with_the_committed_data(tmp_path: Path) -> None:
    for name in FIGURES:
        for file in RESULTS.glob(f"{name}.[cm]*"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    redraw(tmp_path, ending=".html")
    for name in ("fig2", "fig3"):
        assert (tmp_path / f"{name}.md").read_text() == (RESULTS / f"{name}.md").read_text()
        assert "time per operation" in (tmp_path / f"{name}-per-flop.html").read_text()
    # 188 of 257 sizes are dominated or undecided; of the 69 others, the last one is an edge.
    drawn = (tmp_path / "matmul-256-512.html").read_text()
    assert "68 of 257 points are LHPs" in drawn and "Intel(R) Xeon(R) Processor" in drawn
    assert not (tmp_path / "matmul-256-512-per-flop.html").exists()


def test_a_picture_of_few_colours_becomes_smaller_and_stays_the_same() -> None:
    picture = Image.new("RGB", (200, 200), (255, 255, 255))
    picture.paste((0, 103, 168), (20, 20, 120, 160))
    sink = io.BytesIO()
    picture.save(sink, format="PNG", compress_level=0)
    small = shrink(sink.getvalue())
    assert len(small) < len(sink.getvalue()) / 10
    with Image.open(io.BytesIO(small)) as found:
        assert found.convert("RGB").tobytes() == picture.tobytes()
    assert len(shrink(small)) <= len(small)
