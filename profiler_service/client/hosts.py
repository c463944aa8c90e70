"""The client's methods about hosts: list, change, remove."""

from __future__ import annotations

import functools
from urllib.parse import quote

import httpx

from profiler_service.client.operation import operation
from profiler_service.client.problems import parse
from profiler_service.client.transport import Call, Query
from profiler_service.wire import (
    HostChange,
    HostInfo,
    JoinInfo,
    JoinKeyInfo,
    JoinKeyPage,
    JoinKeyRequest,
    JoinRequest,
    KeptJoinKey,
)

_segment = functools.partial(quote, safe="")


class HostOperations:
    """Part of `service.Service`."""

    async def _request(self, call: Call) -> httpx.Response:
        """The response to the call, tried again where that may help."""
        raise NotImplementedError

    @operation
    async def list_hosts(self, *, with_retired: bool = False) -> list[HostInfo]:
        """Every host that has joined or registered, without those that were removed."""
        params: Query = {"retired": "true"} if with_retired else {}
        return parse(list[HostInfo], await self._request(Call(path="/hosts", params=params)))

    @operation
    async def get_host(self, name: str) -> HostInfo:
        """The host of that name."""
        return parse(HostInfo, await self._request(Call(path=f"/hosts/{_segment(name)}")))

    @operation
    async def change_host(self, name: str, change: HostChange) -> HostInfo:
        """The host after the change. Raises ConflictError if it can't be renamed now."""
        call = Call(method="PATCH", path=f"/hosts/{_segment(name)}", body=change)
        return parse(HostInfo, await self._request(call))

    @operation
    async def remove_host(self, name: str) -> HostInfo:
        """The host, retired."""
        call = Call(method="DELETE", path=f"/hosts/{_segment(name)}")
        return parse(HostInfo, await self._request(call))

    @operation
    async def create_join_key(self, wanted: JoinKeyRequest) -> JoinKeyInfo:
        """A key with which a machine joins as a host."""
        call = Call(method="POST", path="/hosts/keys", body=wanted)
        return parse(JoinKeyInfo, await self._request(call))

    @operation
    async def list_join_keys(self, query: Query) -> JoinKeyPage:
        """A page of join keys, newest first, from the query parameters of `GET /hosts/keys`."""
        return parse(JoinKeyPage, await self._request(Call(path="/hosts/keys", params=query)))

    @operation
    async def revoke_join_key(self, key_id: str) -> KeptJoinKey:
        """The join key, revoked."""
        call = Call(method="DELETE", path=f"/hosts/keys/{_segment(key_id)}")
        return parse(KeptJoinKey, await self._request(call))

    @operation
    async def join(self, asked: JoinRequest) -> JoinInfo:
        """The host that this machine has become. Raises JoinKeyRefusedError, ConflictError."""
        call = Call(method="POST", path="/hosts/join", body=asked)
        return parse(JoinInfo, await self._request(call))
