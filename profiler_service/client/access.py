"""The client's methods about tokens and the audit trail."""

from __future__ import annotations

import functools
from urllib.parse import quote

import httpx

from profiler_service.client.operation import operation
from profiler_service.client.problems import parse
from profiler_service.client.transport import Call, Query
from profiler_service.wire import AuditPage, NewToken, TokenInfo, TokenPage, TokenRequest

_segment = functools.partial(quote, safe="")


class AccessOperations:
    """Part of `service.Service`. All of it needs a token with the scope `admin`."""

    async def _request(self, call: Call) -> httpx.Response:
        """The response to the call, tried again where that may help."""
        raise NotImplementedError

    @operation
    async def create_token(self, request: TokenRequest) -> NewToken:
        """The new token. Only this response has its text."""
        call = Call(method="POST", path="/tokens", body=request)
        return parse(NewToken, await self._request(call))

    @operation
    async def list_tokens(self, query: Query) -> TokenPage:
        """A page of tokens, newest first, from the query parameters of `GET /tokens`."""
        return parse(TokenPage, await self._request(Call(path="/tokens", params=query)))

    @operation
    async def revoke_token(self, token_id: str) -> TokenInfo:
        """The token, revoked."""
        call = Call(method="POST", path=f"/tokens/{_segment(token_id)}/revoke")
        return parse(TokenInfo, await self._request(call))

    @operation
    async def list_audit(self, query: Query) -> AuditPage:
        """A page of the audit trail, newest first, from the query parameters of `GET /audit`."""
        return parse(AuditPage, await self._request(Call(path="/audit", params=query)))
