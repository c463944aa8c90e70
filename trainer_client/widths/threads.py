"""With how many threads a module is raced: as many as its layers were measured with."""

from __future__ import annotations

from profiler_service.client import ServiceClient


def find_threads(service: str, host: str | None = None) -> int | None:
    """Threads with which the service's host measures: give them to `torch.set_num_threads`.

    None if it isn't known which host that is: there is none, or there are several. Raises the
    client's errors.
    """
    with ServiceClient(service) as client:
        hosts = [each for each in client.list_hosts() if host in (None, each.name)]
        return client.get_platform(hosts[0].platform).threads if len(hosts) == 1 else None
