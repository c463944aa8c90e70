"""Lets each method be written once, for the blocking and for the asynchronous client.

An operation is a coroutine over a transport. An asynchronous client returns it to be awaited. A
blocking client runs it at once: its transport never suspends, so the coroutine ends at the first
step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, overload

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


class Blocking:
    """Base of clients whose operations return their results."""


class Asynchronous:
    """Base of clients whose operations are awaited."""


class operation(Generic[S, P, T]):  # noqa: N801  a decorator, like `property`
    """Makes a coroutine function a method of either kind of client."""

    def __init__(self, rule: Callable[Concatenate[S, P], Coroutine[Any, Any, T]]) -> None:
        self._rule = rule
        functools.update_wrapper(cast(Any, self), rule)

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...

    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, T]: ...

    @overload
    def __get__(self, client: Asynchronous, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self
        rule: Any = self._rule
        if isinstance(client, Blocking):
            return functools.partial(_run_rule, rule, client)
        return functools.partial(rule, client)


def _run_rule(rule: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    return run_blocking(rule(*args, **kwargs))


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result; its transport must never suspend."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        coroutine.close()
    raise RuntimeError("a blocking transport has suspended")
