from __future__ import annotations

from profiler_service.analysis.evidence import Evidence


def test_only_what_is_there_is_kept() -> None:
    kept = Evidence(seconds=0.5, calls=7, cut_short=False).to_json()
    assert kept == {"seconds": 0.5, "calls": 7, "cut_short": False}
    assert Evidence.from_json(kept) == Evidence(seconds=0.5, calls=7, cut_short=False)


def test_counts_kept_as_floats_by_earlier_versions_are_read() -> None:
    read = Evidence.from_json({"seconds": 2.0, "calls": 7.0, "guided": 1.0, "cut_short": 0.0})
    assert read == Evidence(seconds=2.0, calls=7, guided=True, cut_short=False)
    assert isinstance(read.calls, int) and isinstance(read.guided, bool)


def test_spoiled_samples_are_those_discarded_and_those_kept_though_disturbed() -> None:
    # 30 of the 100 taken were discarded; of the 70 kept, 5 were disturbed each time.
    assert Evidence(samples=70, discarded=30, unstable=5).spoiled_share == 0.35
    assert Evidence(samples=70, discarded=0, unstable=0).spoiled_share == 0.0
    assert Evidence().spoiled_share == 0.0
