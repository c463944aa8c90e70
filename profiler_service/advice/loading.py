"""Loads the user's model and example input from the user's own code.

Runs the user's code in the user's process. Knows neither layers nor the service.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from profiler_service.advice.memory import is_memory_error
from profiler_service.errors import InvalidRequestError, ModelError
from profiler_service.user_code import describe_error, find_named

NO_MEMORY = (
    "with --meta, the model is made and run without data, and needs no memory: nothing is computed"
)


@contextlib.contextmanager
def importing_from_here() -> Iterator[None]:
    """In this context, modules of the working directory can be imported; prints go to stderr.

    Also what is printed without Python, by a library in C or by a process that is started.
    """
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        with _printing_to_stderr(), contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path.remove(here)


@contextlib.contextmanager
def _printing_to_stderr() -> Iterator[None]:
    """In this context, the process's standard output is its standard error."""
    sys.stdout.flush()
    output = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(output, 1)
        os.close(output)


def load_model(where: str, *, on_meta: bool = False) -> nn.Module:
    """The model that `where` ("module:factory") names: the factory's result, or an nn.Module.

    It is made without data if it shall be `on_meta`, the meta device. Raises InvalidRequestError if
    `where` names no model, ModelError if the user's code raises.
    """
    with torch.device("meta") if on_meta else contextlib.nullcontext():
        found = _load(where, "a model")
    if not isinstance(found, nn.Module):
        raise InvalidRequestError(
            f"{where} gives an object of type {type(found).__name__}, no torch.nn.Module",
            hint="name a function without arguments that returns the model",
        )
    return found


def load_example(where: str) -> object:
    """The example input that `where` ("module:function") returns.

    `profiler_service.advice.example.arrange_example` makes arguments of it. Raises
    InvalidRequestError, ModelError.
    """
    return _load(where, "an example input")


def load_factory(where: str) -> Callable[..., object]:
    """The function that `where` names. Raises InvalidRequestError, ModelError."""
    found = _find(where, "a model")
    if isinstance(found, nn.Module) or not callable(found):
        raise InvalidRequestError(
            f"{where} is of type {type(found).__name__}, no function",
            hint="name a function that takes the model's widths as arguments",
        )
    return found


def _load(where: str, what: str) -> object:
    """The result of the function that `where` names; if `where` names an nn.Module, that."""
    found = _find(where, what)
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise InvalidRequestError(
            f"{where} is of type {type(found).__name__}, and can't be called",
            hint="name a function without arguments",
        )
    try:
        made: object = found()
    except (Exception, SystemExit) as error:
        hint = "name a function that can be called without arguments, and try it in plain Python"
        raise describe_raised(where, error, hint=hint) from error
    return made


def _find(where: str, what: str) -> object:
    """What `where` names."""
    match = re.fullmatch(r"([\w.]+):([\w.]+)", where)
    if match is None:
        raise InvalidRequestError(
            f"{where[:80]!r} doesn't say where {what} comes from",
            hint="write MODULE:FUNCTION, for example my_models:make_model",
        )
    hint = f"try `python -c 'import {match[1]}'` in this environment"
    return find_named(where, functools.partial(describe_raised, hint=hint))


def describe_raised(what: str, error: BaseException, *, hint: str) -> ModelError:
    """The error that says what `what` raised, and on which line of the user's code."""
    remark = ""
    if is_memory_error(error):
        remark, hint = " (more memory than is free)", NO_MEMORY
    return ModelError(describe_error(what, error, remark=remark), hint=hint)
