"""The tokens that this process knows, verified in memory, and when they were last used.

A token that is made or revoked through this process counts at once, and after `REFRESH_S` in every
other process. While the database is away, what is known stays valid until it expires.

Knows no HTTP. Belongs to one event loop, and calls the store only from threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from profiler_service.access.keyring import Keyring, Verified
from profiler_service.errors import StoreError
from profiler_service.storage.store import Store

REFRESH_S = 1.0
"""How often to look for tokens that other processes made or revoked."""
LAST_USE_S = 60.0
"""How often to store which tokens were used."""

logger = logging.getLogger(__name__)


class KnownTokens:
    """Whether a token is needed, and whether one is valid."""

    def __init__(self, store: Store, *, is_exposed: bool) -> None:
        """If `is_exposed`, others than this machine reach the service: it always needs a token."""
        self._store = store
        self._is_exposed = is_exposed
        self._changes: tuple[int, int] | None = None
        self._keyring: Keyring
        self._verified: dict[bytes, Verified] = {}
        self._used: set[str] = set()
        self._refreshing = asyncio.Lock()
        self.is_required = True
        """Whether every request needs a token: also once there ever was one. The last one's end
        must not open the service to everybody."""

    def verify(self, text: str) -> Verified:
        """The token, and what it allows. Raises UnauthenticatedError. Takes microseconds.

        What was verified is remembered by its digest, until a token is made or revoked.
        """
        key = hashlib.sha256(text.encode()).digest()
        verified = self._verified.get(key)
        if verified is None or time.monotonic() >= verified.ends_s:
            verified = self._verified[key] = self._keyring.verify(text, time.monotonic())
        self._used.add(verified.token.id)
        return verified

    def is_valid(self, token_id: str) -> bool:
        """Whether what began with this token may go on. An empty text is no token."""
        if not token_id:
            return not self.is_required
        return self._keyring.is_valid(token_id, time.monotonic())

    async def refresh(self) -> None:
        """Returns when all that the store had at the time of the call is known.

        Raises StoreUnavailableError; everything then stays as it was.
        """
        # One at a time: otherwise one that was slow could put back what it read long ago.
        async with self._refreshing:
            # Counted first: what is made or revoked between the two is read again the next time.
            changes = await asyncio.to_thread(self._store.count_token_changes)
            if changes == self._changes:
                return
            self._keyring = await asyncio.to_thread(self._store.load_keyring)
            self._verified.clear()
            self._changes = changes
            self.is_required = self._is_exposed or len(self._keyring) > 0

    async def store_last_use(self) -> None:
        """Stores that those were used now that were used since the call before."""
        used, self._used = self._used, set()
        if used:
            await asyncio.to_thread(self._store.note_tokens_used, used)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """In this context, tokens are refreshed, and their last use is stored. Raises StoreError.

        Raises only if the tokens can't be read at the beginning.
        """
        await self.refresh()
        tasks = [
            asyncio.create_task(_repeat(self.refresh, REFRESH_S)),
            asyncio.create_task(_repeat(self.store_last_use, LAST_USE_S)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(StoreError):
                await self.store_last_use()


async def _repeat(step: Callable[[], Awaitable[None]], every_s: float) -> None:
    is_well = True
    while True:
        await asyncio.sleep(every_s)
        try:
            await step()
        except Exception as error:  # if it ended here, a revoked token would stay valid for ever
            if is_well:
                logger.warning(
                    "tokens may be out of date: %s",
                    error,
                    exc_info=None if isinstance(error, StoreError) else error,
                )
            is_well = False
        else:
            is_well = True
