from __future__ import annotations

import datetime as dt

import pytest

from profiler_service.cli.text import describe_answer, describe_curve, parse_params
from profiler_service.errors import InvalidDimsError, InvalidRequestError
from profiler_service.plan.modes import Mode
from profiler_service.plots.text import format_redundancy
from profiler_service.wire import EvidenceInfo, FasterBackend, GridAxisRange, parse_range
from profiler_service.wording import format_age, format_range, format_ratio, format_seconds
from tests.cli.stub import ANSWER, CURVE, NOW


@pytest.mark.parametrize(
    ("text", "first", "last", "step"),
    [
        ("256:512", 256, 512, 1),
        ("256", 256, 256, 1),
        # 1100, 1104, …, 1300: 200 is a multiple of 4.
        ("1100:1300:4", 1100, 1300, 4),
        # 10, 14, 18: the next would be 22, beyond 20.
        ("10:20:4", 10, 18, 4),
        ("5:5:9", 5, 5, 9),
    ],
)
def test_a_range_is_read_inclusively(text: str, first: int, last: int, step: int) -> None:
    assert parse_range(text) == GridAxisRange(first=first, last=last, step=step)


@pytest.mark.parametrize(
    "text", ["", "a", "1:", ":2", "1:2:3:4", "2:1", "0:5", "1:5:0", "-1:5", "1.5:2", "١:٢", "1-5"]
)
def test_what_is_no_range_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(InvalidDimsError) as caught:
        parse_range(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "complaint", "advice"),
    [
        ("0:5", "starts at 0", "dims start at 1"),
        ("1:5:0", "step 0", "STEP of at least 1"),
        ("5:1", "is empty", "LAST"),
        ("1:99999999999", "99999999999 in range .* is larger than 999999999", "999999999"),
        # More digits than int() takes.
        ("9" * 5000, "is larger than 999999999", "999999999"),
    ],
)
def test_a_range_is_refused_for_what_is_wrong_with_it(
    text: str, complaint: str, advice: str
) -> None:
    with pytest.raises(InvalidDimsError, match=complaint) as caught:
        parse_range(text)
    assert advice in caught.value.hint
    assert len(str(caught.value)) < 300


def test_a_range_is_written_as_it_is_typed() -> None:
    assert format_range(GridAxisRange(first=256, last=512)) == "256:512"
    assert format_range(GridAxisRange(first=10, last=18, step=4)) == "10:18:4"


def test_params_are_read_and_an_equals_sign_may_be_part_of_a_value() -> None:
    assert parse_params(["batch=32", "note=a=b"]) == {"batch": "32", "note": "a=b"}


@pytest.mark.parametrize("pairs", [["batch"], ["=3"], ["batch="], ["batch=1", "batch=2"]])
def test_what_is_no_pair_or_comes_twice_is_refused(pairs: list[str]) -> None:
    with pytest.raises(InvalidRequestError):
        parse_params(pairs)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (87.14e-6, "87.1 µs"),
        (999.4e-6, "999 µs"),
        (999.6e-6, "1.00 ms"),
        (2.4e-3, "2.40 ms"),
        (1.5, "1.50 s"),
        (119.0, "119 s"),
        (120.0, "2 min"),
        (3 * 3600.0, "3 h"),
        (5 * 86400.0, "5 days"),
    ],
)
def test_durations_have_three_figures_and_a_fitting_unit(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_ages() -> None:
    assert format_age(NOW, NOW + dt.timedelta(seconds=1)) == "just now"
    assert format_age(NOW, NOW + dt.timedelta(minutes=3)) == "3 min ago"


def test_an_answer_from_a_race_says_what_it_rests_on() -> None:
    evidence = EvidenceInfo(calls=1936, seconds=0.4213, candidates=512, confirmations=50)
    answer = ANSWER.model_copy(update={"evidence": evidence})
    assert describe_answer(answer, NOW).splitlines()[-1] == (
        "a race of 1,936 calls in 421 ms: 512 larger points seen, 50 pairs to confirm"
    )
    assert "race" not in describe_answer(ANSWER, NOW)


def test_an_answer_says_why_if_kernels_are_known() -> None:
    why = "the same kernel at both: matmul brg_matmul:avx512_core_bf16"
    answer = ANSWER.model_copy(update={"why": why})
    assert f"why: {why}" in describe_answer(answer, NOW).splitlines()
    assert "why" not in describe_answer(ANSWER, NOW)


def test_an_answer_that_moves_says_by_how_much_and_how_surely() -> None:
    text = describe_answer(ANSWER, NOW + dt.timedelta(minutes=3))
    # 100 · (1.034 - 1) = 3.4; 1.029 and 1.039 likewise.
    assert text.splitlines()[0] == (
        "1200,320  3.4 % faster than 1197,317 (95 % interval 2.9 to 3.9 %), grow by 3,3"
    )
    assert "116 µs instead of 120 µs" in text
    assert "3 min ago" in text
    assert "stale" not in text


def test_an_answer_within_the_slack_is_called_slower_at_most() -> None:
    # A ratio of 1.002, between 0.997 and 1.007.
    slack = ANSWER.model_copy(
        update={
            "prefer": "nearest",
            "slack": 0.01,
            "verdict": "ambiguous",
            "speedup": 1 / 1.002,
            "speedup_interval": (1 / 1.007, 1 / 0.997),
        }
    )
    first = describe_answer(slack, NOW).splitlines()[0]
    assert first.startswith("1200,320  at most 1 % slower than 1197,317")
    assert "(95 % interval -0.3 to +0.7 %), grow by 3,3" in first
    stays = slack.model_copy(update={"lhp": slack.dims, "grow_by": [0, 0]})
    assert "keep it: nothing larger is confidently at most 1 % slower" in describe_answer(
        stays, NOW
    )


def test_the_nearest_and_the_largest_say_what_may_have_been_missed() -> None:
    settled = ANSWER.model_copy(
        update={
            "prefer": "largest",
            "settled": True,
            "unseen_risk": 0.04,
            "evidence": EvidenceInfo(settled=True),
        }
    )
    assert "settled; that something larger is no slower: 4 % by the model" in describe_answer(
        settled, NOW
    )
    open_ = settled.model_copy(update={"settled": False, "prefer": "nearest"})
    assert "not settled: a larger --settle goes on for longer; that something nearer" in (
        describe_answer(open_, NOW)
    )


def test_an_answer_that_stays_tells_an_lhp_from_an_undecided_point() -> None:
    stays = {"lhp": [1197, 317], "grow_by": [0, 0], "speedup": 1.0}
    lhp = ANSWER.model_copy(update={**stays, "is_lhp": True, "verdict": "slower"})
    undecided = ANSWER.model_copy(update={**stays, "verdict": "ambiguous"})
    assert "it is an LHP, every larger point is slower" in describe_answer(lhp, NOW, mode="grid")
    assert "nothing larger is confidently faster" in describe_answer(undecided, NOW, mode="grid")
    assert "LHP" not in describe_answer(undecided, NOW, mode="grid")


@pytest.mark.parametrize("mode", ["race", "survey", None])
def test_only_a_grid_sweep_knows_every_larger_point(mode: Mode | None) -> None:
    stays = {"lhp": [1197, 317], "grow_by": [0, 0], "speedup": 1.0, "verdict": "slower"}
    text = describe_answer(ANSWER.model_copy(update={**stays, "is_lhp": True}), NOW, mode=mode)
    assert text.startswith("1197,317  keep it: the best larger rival found is slower\n")


def test_a_stale_answer_says_so() -> None:
    assert "stale" in describe_answer(ANSWER.model_copy(update={"stale": True}), NOW)


def test_a_stale_answer_says_what_has_changed() -> None:
    changes = ["threads: 1 → 3", "microcode: not recorded → 0x1"]
    stale = ANSWER.model_copy(update={"stale": True, "stale_because": changes})
    text = describe_answer(stale, NOW)
    assert "changed since (threads: 1 → 3; microcode: not recorded → 0x1); this" in text


def test_an_answer_s_caveats_are_printed() -> None:
    caveats = ["disturbed: others used 34%.", "noisy: 72% of 2,466 samples were disturbed."]
    lines = describe_answer(ANSWER.model_copy(update={"caveats": caveats}), NOW).splitlines()
    assert lines[-2:] == caveats


def test_redundancy_is_a_range_while_points_are_undecided() -> None:
    # 2 LHPs of 5 points: 60 %; with the undecided one as third LHP: 40 %.
    assert format_redundancy(CURVE) == "40.0 to 60.0 %"
    assert format_redundancy(CURVE.model_copy(update={"num_undecided": 0})) == "60.0 %"
    assert format_redundancy(CURVE.model_copy(update={"redundancy": None})) == "–"
    # A race decides one point only: its share of LHPs says nothing.
    assert format_redundancy(CURVE.model_copy(update={"mode": "race"})) == "–"


def test_a_curve_is_described() -> None:
    text = describe_curve(CURVE)
    assert "size 256:261" in text
    assert "5 of 6 points measured, 1 failed" in text
    assert "2 LHPs, 20.0 % undecided, redundancy 40.0 to 60.0 %" in text
    # A race was run for one point, and finds no more than that one's answer.
    text = describe_curve(CURVE.model_copy(update={"mode": "race", "undecided": None}))
    assert text.endswith("5 of 6 points measured, 1 failed, in a race for 256")
    text = describe_curve(CURVE.model_copy(update={"mode": "nearest", "undecided": None}))
    assert text.endswith("1 failed, in a search for the nearest no slower than 256")
    # Nobody asked for kernel 256.
    text = describe_curve(CURVE.model_copy(update={"mode": "kernels", "undecided": None}))
    assert text.endswith("5 of 6 points measured, 1 failed, each of them a kernel of one product")


def test_ratios_that_arent_known_are_dashes() -> None:
    assert format_ratio(0.99812, 0.98, 1.01) == ("0.9981", "0.9800 to 1.0100")
    assert format_ratio(0.99812, None, 1.01) == ("0.9981", "–")
    assert format_ratio(None, None, None) == ("–", "–")


def test_a_faster_kernel_is_named_as_an_option() -> None:
    faster = FasterBackend(
        backend="packed", speedup=2.857, speedup_interval=(2.8, 2.912), curve="c9"
    )
    answer = ANSWER.model_copy(update={"faster_backend": faster})
    assert describe_answer(answer, NOW).splitlines()[-1] == (
        "another kernel is 186 % faster at 1197,317 (95 % interval 180 to 191 %): --backend packed"
    )


def test_kernels_that_are_still_compared_are_no_verdict() -> None:
    answer = ANSWER.model_copy(update={"comparing_backends": True})
    assert describe_answer(answer, NOW).splitlines()[-1] == (
        "other kernels are compared in the background: ask again in a few seconds"
    )
    assert "kernel" not in describe_answer(ANSWER, NOW)


def test_an_answer_says_in_plain_words_whether_it_is_settled() -> None:
    def describe(evidence: EvidenceInfo, **changes: object) -> str:
        changes |= {"evidence": evidence}
        return describe_answer(ANSWER.model_copy(update=changes), NOW)

    settled = describe(EvidenceInfo(settled=True), settled=True, margin=0.0132, unseen_risk=0.02)
    line = "settled: nothing larger in this window is more than 1.3 % faster (95 %)"
    assert f"{line}; that something never compared is: 2 % by the model" in settled
    text = describe(EvidenceInfo(settled=False), settled=False, margin=0.0132)
    assert "not settled: something larger in this window may be up to 1.3 % faster" in text
    text = describe(EvidenceInfo(settled=False), settled=False)
    assert "not settled: it isn't known how much faster" in text
    # A grid, and a race from before, say nothing of it.
    assert "settled" not in describe(EvidenceInfo())


def test_an_answer_names_what_contradicts_it_and_its_edge() -> None:
    text = describe_answer(ANSWER.model_copy(update={"edge": True, "contradicts": ["f1"]}), NOW)
    assert "1200,320 ends the window: a larger --max-growth" in text
    assert "an earlier fact said otherwise: `lhp facts --dims 1197,317` lists them" in text
