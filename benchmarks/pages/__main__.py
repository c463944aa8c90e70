"""Times pages in a real Chromium, a long list on the wire, and a warm query beside open pages.

    apt-get install wrk        # the load generator; https://github.com/wg/wrk
    python -m benchmarks.pages --out docs/results/pages.md

Three parts. (a) Curves of a million points: one axis with noise, two axes, and one axis with
nothing but LHPs. Each look is at a curve that nobody has looked at before, in a window without
cache. A page is interactive when its chart is drawn, and a box tells of the point under the
pointer. Bytes are those on the wire, as the browser counts them. (b) A list of 10,000 curves: from
sending a request to the last byte of its response. Both on PostgreSQL and `lhp serve`. (c) The
warm query of `benchmarks.query` (`constant`), without pages, beside ten open pages, and without,
again and again: streams of running sweeps and parts that renew themselves are among them. The
ratio of a round is that of the second run to the geometric mean of both others; the third divided
by the first shows the noise.

Prints a Markdown report. The exit code is 0 if everything holds, 1 if not, 2 without a verdict.
"""

from __future__ import annotations

import argparse
import http.client
import math
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import query
from benchmarks.answers.statistics import Ratio, ratio_of
from benchmarks.checked import publish
from benchmarks.pages.looking import Look, look, open_browser, open_pages
from benchmarks.pages.stored import KINDS, add_what_pages_show, fill
from benchmarks.provenance import heading
from benchmarks.soak.checks import Check
from benchmarks.soak.machines import SoakError, run_service

MAX_INTERACTIVE_S = 2.0
MAX_RECEIVED_BYTES = 3_000_000
MAX_LIST_S = 0.2
LISTS = {
    "first page": "/ui/curves",
    "most points first": "/ui/curves?sort=-points",
    "searched": "/ui/curves?search=batch%3D99",
}
MOST_HIDDEN = 0.1
"""If noise could hide a larger loss, nothing is shown."""
SETTLED_S = 2.0
"""How long open pages are left alone before the query is measured."""
NAMES = {
    "line": "one axis",
    "grid": "two axes",
    "lhps": "one axis, every point an LHP",
}


@dataclass(frozen=True, kw_only=True)
class Round:
    """Requests per second and 99th percentiles, before, beside and after the open pages."""

    requests_hz: tuple[float, float, float]
    p99_s: tuple[float, float, float]


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--points", type=int, default=1_000_000, help="of each large curve")
    parser.add_argument("--looks", type=int, default=3, help="large curves of each kind")
    parser.add_argument("--curves", type=int, default=10_000, help="of the list")
    parser.add_argument("--requests", type=int, default=60, help="for each list")
    parser.add_argument("--rounds", type=int, default=6, help="of the warm query, at least 2")
    parser.add_argument("--seconds", type=int, default=3, help="length of each run of a round")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report there, too")
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing; install it: apt-get install wrk (or https://github.com/wg/wrk)")
    lines = heading("Pages", "benchmarks.pages", "fastapi", "plotly", "playwright", "psycopg")
    try:
        looks, lists_s = _look_and_list(given)
        rounds = _query_beside_pages(given)
    except SoakError as error:
        print(f"no verdict: {error}", file=sys.stderr)
        return 2
    text = [
        f"Curves of {given.points:,} points, a list of {given.curves:,} curves, and"
        f" {given.rounds} rounds of three runs of {given.seconds} s. What is timed, and how, says"
        " the module.",
    ]
    return publish(
        given.out,
        lines,
        text,
        [*check_looks(looks), *check_lists(lists_s), *check_rounds(rounds)],
        more=[*_table_looks(looks), "", *_table_lists(lists_s), "", *_table_rounds(rounds)],
        looks={kind: [asdict(each) for each in of_kind] for kind, of_kind in looks.items()},
        lists_s=lists_s,
        rounds=[asdict(each) for each in rounds],
    )


def _look_and_list(
    given: argparse.Namespace,
) -> tuple[dict[str, list[Look]], dict[str, list[float]]]:
    """Looks at large curves by kind, and seconds for each list."""
    with run_service("pages", "--no-worker") as (_, postgres, service), open_browser() as browser:
        large = fill(
            postgres.url,
            num_curves=given.curves,
            num_points=given.points,
            looks=given.looks + 1,
        )
        time.sleep(SETTLED_S)
        # The first look after a start loads programs, and the first one of a browser its own.
        for kind in KINDS:
            look(browser, f"{service.url}/ui/curves/{large[kind].pop()}")
        looks: dict[str, list[Look]] = {kind: [] for kind in KINDS}
        for _ in range(given.looks):
            for kind in KINDS:
                found = look(browser, f"{service.url}/ui/curves/{large[kind].pop()}")
                looks[kind].append(found)
                print(f"{kind}: interactive after {found.interactive_s:.2f} s", file=sys.stderr)
        lists_s = {
            name: _time_requests(service.url, path, given.requests) for name, path in LISTS.items()
        }
    return looks, lists_s


def _time_requests(url: str, path: str, count: int) -> list[float]:
    """Seconds from sending each request to the last byte of its response, over one connection.

    Raises SoakError for any answer but a page.
    """
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
    taken_s: list[float] = []
    try:
        for _ in range(count + 1):
            begun_s = time.perf_counter()
            connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
            reply = connection.getresponse()
            reply.read()
            taken_s.append(time.perf_counter() - begun_s)
            if reply.status != http.client.OK:
                raise SoakError(f"{path} gives {reply.status}")
    except OSError as error:
        raise SoakError(f"{path} gives no answer: {error}") from error
    finally:
        connection.close()
    return taken_s[1:]  # the first one fills caches


def _query_beside_pages(given: argparse.Namespace) -> list[Round]:
    """The warm query before, beside and after ten open pages, in rounds."""
    path = f"/lhp?dims={query.FIRST},{query.FIRST}"
    rounds: list[Round] = []
    with (
        tempfile.TemporaryDirectory(prefix="lhp-pages-") as name,
        query.server(Path(name)) as address,
        open_browser() as browser,
    ):
        folder = Path(name)
        database_url = f"sqlite:///{folder / 'lhp.sqlite'}"
        sweep, curves = add_what_pages_show(database_url, query.HOST, given.points)
        urls = [f"{address}/{each}" for each in list_pages(sweep, curves)]
        query.load(address, path, "", 1, folder)
        for _ in range(given.rounds):
            before = query.load(address, path, "", given.seconds, folder)
            with open_pages(browser, urls):
                time.sleep(SETTLED_S)
                beside = query.load(address, path, "", given.seconds, folder)
            time.sleep(SETTLED_S)
            after = query.load(address, path, "", given.seconds, folder)
            rounds.append(
                Round(
                    requests_hz=(before.requests_hz, beside.requests_hz, after.requests_hz),
                    p99_s=(before.p99_s, beside.p99_s, after.p99_s),
                )
            )
            told = ", ".join(f"{each:.0f}/s" for each in rounds[-1].requests_hz)
            print(f"without, with, without pages: {told}", file=sys.stderr)
    return rounds


def list_pages(sweep: str, curves: Sequence[str]) -> list[str]:
    """Addresses of ten pages: one of each kind, and three that follow a sweep under way."""
    return [
        f"?workload=linear&dims={query.FIRST},{query.FIRST}",
        "ui/curves",
        f"ui/curves/{curves[0]}",
        f"ui/compare?ids={','.join(curves)}",
        "ui/history",
        "ui/hosts",
        "ui/sweeps",
        *[f"ui/sweeps/{sweep}"] * 3,
    ]


def compare(values: Sequence[tuple[float, float, float]]) -> tuple[Ratio, Ratio]:
    """With pages divided by without, and without (later) divided by without (earlier)."""
    logs = [[math.log(each) for each in values_of_round] for values_of_round in values]
    return ratio_of([b - (a + c) / 2 for a, b, c in logs]), ratio_of([c - a for a, _, c in logs])


def check_looks(looks: dict[str, list[Look]]) -> list[Check]:
    """Whether every look was fast enough, and received little enough."""
    checks: list[Check] = []
    for kind, of_kind in looks.items():
        took_s = [each.interactive_s for each in of_kind]
        most = max(each.received_bytes for each in of_kind)
        checks += [
            Check(
                claim=f"{NAMES[kind]}: interactive within {MAX_INTERACTIVE_S:g} s",
                found=f"median {statistics.median(took_s):.2f} s, longest {max(took_s):.2f} s",
                holds=max(took_s) <= MAX_INTERACTIVE_S,
            ),
            Check(
                claim=f"{NAMES[kind]}: at most {MAX_RECEIVED_BYTES / 1e6:g} MB",
                found=f"{most / 1e6:.2f} MB",
                holds=most <= MAX_RECEIVED_BYTES,
            ),
        ]
    return checks


def check_lists(lists_s: dict[str, list[float]]) -> list[Check]:
    """Whether the first page of the list came soon enough; of the others, only times are shown."""
    took_s = next(iter(lists_s.values()))
    p95_s = find_p95(took_s)
    return [
        Check(
            claim=f"the list's first page within {MAX_LIST_S * 1000:g} ms",
            found=f"median {statistics.median(took_s) * 1000:.0f} ms,"
            f" 95 % within {p95_s * 1000:.0f} ms",
            holds=p95_s <= MAX_LIST_S,
        )
    ]


def check_rounds(rounds: Sequence[Round]) -> list[Check]:
    """Whether noise explains the difference that open pages make."""
    faster, noise = compare([each.requests_hz for each in rounds])
    longer, noise_p99 = compare([each.p99_s for each in rounds])
    return [
        Check(
            claim="ten open pages: as many warm queries a second, within noise that hides"
            f" {MOST_HIDDEN:.0%} at most",
            found=f"{_show(faster)} times as many; without pages, later to earlier {_show(noise)}",
            holds=faster.high >= 1 and faster.low >= 1 - MOST_HIDDEN,
        ),
        Check(
            claim="ten open pages: 99 % of warm queries as fast, within noise",
            found=f"{_show(longer)} times as long; without pages, later to earlier"
            f" {_show(noise_p99)}",
            holds=longer.low <= 1,
        ),
    ]


def find_p95(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20, method="inclusive")[18]


def _show(ratio: Ratio) -> str:
    return f"{ratio.estimate:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def _table_looks(looks: dict[str, list[Look]]) -> list[str]:
    return [
        "| curve | first byte, s | drawn, s | interactive, s | MB | told |",
        "|---|---:|---:|---:|---:|---|",
        *(
            f"| {NAMES[kind]} | {each.answered_s:.2f} | {each.drawn_s:.2f} |"
            f" {each.interactive_s:.2f} | {each.received_bytes / 1e6:.2f} | {each.told[:60]} |"
            for kind, of_kind in looks.items()
            for each in of_kind
        ),
    ]


def _table_lists(lists_s: dict[str, list[float]]) -> list[str]:
    return [
        "| list | median, ms | 95 % within, ms |",
        "|---|---:|---:|",
        *(
            f"| {name} | {statistics.median(took_s) * 1000:.0f} | {find_p95(took_s) * 1000:.0f} |"
            for name, took_s in lists_s.items()
        ),
    ]


def _table_rounds(rounds: Sequence[Round]) -> list[str]:
    return [
        "| warm queries a second: without pages | with ten | without | p99, ms | | |",
        "|---:|---:|---:|---:|---:|---:|",
        *(
            "| "
            + " | ".join(
                [
                    *(f"{each:,.0f}" for each in one.requests_hz),
                    *(f"{each * 1000:.1f}" for each in one.p99_s),
                ]
            )
            + " |"
            for one in rounds
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
