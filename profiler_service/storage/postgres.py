"""Connections to PostgreSQL that never wait longer than a limit.

If a server is stopped, or a network loses packets, connections stay open. Only the client can
notice that, by the time. Knows no table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine

T = TypeVar("T")

IDLE_TRANSACTION_S = 60
"""The server ends a session that has left a transaction open for so long."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed as soon as an answer takes longer than `timeout_s`.

    Afterwards nobody knows what the server did, so the connection can't be used again.
    """

    timeout_s: float | None = None
    """Longest wait for one answer; None: without a limit."""

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """The result of `gen`. Raises psycopg.OperationalError if it takes too long."""
        if self.timeout_s is None:
            return super().wait(gen, *args, **kwargs)
        limited = _limit(gen, time.monotonic() + self.timeout_s)
        try:
            return super().wait(limited, *args, **kwargs)
        except _TimeOverError:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer for {self.timeout_s:g} s") from None

    def notifies(self, **kwargs: Any) -> Generator[psycopg.Notify]:
        """Notifications. While it listens, it waits without the limit."""
        limit_s, self.timeout_s = self.timeout_s, None
        try:
            yield from super().notifies(**kwargs)
        finally:
            self.timeout_s = limit_s


class _TimeOverError(Exception):
    """The answer didn't come in time."""


def _limit(gen: Generator[Any, Any, T], deadline_s: float) -> Generator[Any, Any, T]:
    """`gen`, which may not go on after the deadline. The driver resumes it every 0.1 s."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            wanted = gen.send(ready)
            if time.monotonic() > deadline_s:
                raise _TimeOverError
    except StopIteration as ended:
        value: T = ended.value
        return value


def connect_arguments(url: sa.URL, timeout_s: float | None) -> dict[str, object]:
    """Arguments of the driver that make both ends give up after `timeout_s`.

    Parameters in the URL are left as they are. If the operator gives `options`, none are added:
    some poolers refuse them.
    """
    arguments: dict[str, object] = {"keepalives_idle": 10, "keepalives_interval": 5}
    if timeout_s is not None:
        timeout_ms = math.ceil(timeout_s * 1000)
        arguments |= {
            "tcp_user_timeout": timeout_ms,
            "options": f"-c statement_timeout={timeout_ms} -c lock_timeout={timeout_ms}"
            f" -c idle_in_transaction_session_timeout={IDLE_TRANSACTION_S * 1000}",
        }
    arguments["connect_timeout"] = math.ceil(CONNECT_TIMEOUT_S if timeout_s is None else timeout_s)
    return {name: value for name, value in arguments.items() if name not in url.query}


def wait_for_notification(
    connection: sa.Connection, channel: str, payload: str, timeout_s: float
) -> None:
    """Returns when somebody notifies `channel` with that payload, or after `timeout_s`.

    A connection that hasn't listened yet only begins to: look first for what was said before. It
    goes on listening between two calls. Raises sqlalchemy.exc.OperationalError.
    """
    if channel not in connection.info:
        connection.exec_driver_sql(f"LISTEN {channel}")
        connection.commit()
        connection.info[channel] = True
        return
    driver: Any = connection.connection.driver_connection
    try:
        for notification in driver.notifies(timeout=timeout_s):
            if (notification.channel, notification.payload) == (channel, payload):
                return
    except psycopg.Error as error:
        connection.invalidate()
        raise sa.exc.OperationalError(
            f"LISTEN {channel}", None, error, connection_invalidated=True
        ) from error


CONNECT_TIMEOUT_S = 5.0
"""Longest time to connect, if there is no other limit."""


def bound_connections(engine: Engine, timeout_s: float) -> None:
    """Makes every connection of the engine wait for `timeout_s` at most, for each answer."""

    @event.listens_for(engine, "do_connect")
    def connect(
        _dialect: object, _record: object, arguments: Any, named: dict[str, Any]
    ) -> BoundedConnection:
        connection = BoundedConnection.connect(*arguments, **named)
        connection.timeout_s = timeout_s
        return connection
