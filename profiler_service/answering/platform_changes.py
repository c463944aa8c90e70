"""Says what a change of a host's platform changed, in words and as a resource. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from profiler_service.analysis.platform_change import Pattern
from profiler_service.analysis.samples import Platform
from profiler_service.storage.platform_change_records import ChangeState, PlatformChange
from profiler_service.storage.store import Host, Store
from profiler_service.wire import PlatformChangeInfo

MOST_DIFFERENCES: Final = 3
"""So many differences of two platforms are named in a sentence."""


def read_changes(store: Store, hosts: Sequence[Host]) -> dict[str, PlatformChangeInfo]:
    """The change that brought each host to its platform of now, by name. Raises StoreError.

    Left out: who has never changed, or is on another platform for an older version's worker.
    """
    changes = store.find_platform_changes([each.name for each in hosts])
    if not changes:
        return {}
    platforms = {each.key: each for each in store.list_platforms()}
    return {
        host.name: change_info(change, platforms)
        for host in hosts
        if (change := changes.get(host.name)) is not None
        and change.new_platform_key == host.platform_key
    }


def read_offered(store: Store, hosts: Sequence[Host]) -> dict[str, str]:
    """How the platform differs that each host offers, by name. Left out: who offers none.

    Raises StoreError.
    """
    return {
        host.name: _name_differences(
            store.get_platform(host.platform_key).describe_change(
                store.get_platform(host.offered_platform_key)
            )
        )
        for host in hosts
        if host.offered_platform_key is not None
    }


def change_info(change: PlatformChange, platforms: Mapping[str, Platform]) -> PlatformChangeInfo:
    """The change as a resource. `platforms` are all, by key."""
    before, after = (platforms[key] for key in (change.old_platform_key, change.new_platform_key))
    found = change.agreement
    return PlatformChangeInfo(
        before=change.old_platform_key,
        after=change.new_platform_key,
        changed_at=change.changed_at,
        differences=list(before.describe_change(after)),
        state=change.state.value,
        num_facts=change.num_contrasts,
        num_agree=found.num_agree,
        num_changed=found.num_changed,
        num_unclear=found.num_unclear,
        num_failed=found.num_failed,
        agreeing_share=found.share if found.num_decided else None,
        verdict=found.verdict,
        inherited=change.is_inherited,
        finished_at=change.finished_at,
        summary=summarize(change, before, after),
    )


def summarize(change: PlatformChange, before: Platform, after: Platform) -> str:
    """What the change changed, as a sentence without a full stop."""
    return f"{_name_differences(before.describe_change(after))}: {_name_findings(change)}"


def _name_differences(differences: Sequence[str]) -> str:
    """`onednn 3.12 → 3.13, threads 2 → 4`; the first ones, if there are many."""
    named = [each.replace(": ", " ", 1) for each in differences[:MOST_DIFFERENCES]]
    if num_more := len(differences) - len(named):
        named.append(f"and {num_more} more")
    return ", ".join(named)


def _name_findings(change: PlatformChange) -> str:
    found, total = change.agreement, change.num_contrasts
    if change.state is ChangeState.RETURNED:
        return "back on a platform that it was on before, whose curves and facts answer again"
    if total is None:
        return "facts of the platform before will be measured again"
    if not total:
        return "what that changed isn't known, as there is no fact to measure again"
    if change.state is not ChangeState.DONE:
        ended = "" if change.state is ChangeState.OPEN else ", then the platform changed again"
        done = found.num_contrasts
        return f"{done} of {total} facts measured again, {found.num_changed} changed{ended}"
    told = [_name_pattern(each) for each in change.patterns]
    counts = f"{found.num_changed or 'none'} of {total} facts changed"
    if found.num_unclear:
        counts += f", {found.num_unclear} can't be told"
    if found.num_failed:
        counts += f", {found.num_failed} couldn't be measured"
    return "; ".join([*told, counts])


def _name_pattern(pattern: Pattern) -> str:
    """`multiples of 16 no longer win`."""
    return f"multiples of {pattern.multiple} {'win now' if pattern.wins_now else 'no longer win'}"
