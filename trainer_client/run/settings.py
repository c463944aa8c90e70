"""Settings of a run: named values that are checked when they are made, as JSON and from text.

Knows no setting. A class of settings is a frozen dataclass whose fields have documentation below
them; classes of several parts of a run are put together by inheritance.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from profiler_service.errors import InvalidRequestError
from profiler_service.suggestions import did_you_mean

Check = tuple[Callable[[Any], bool], str]
"""Whether a value is allowed, and the allowed ones in words."""


class InvalidConfigError(InvalidRequestError):
    """A key that the configuration doesn't have, or a value that it doesn't allow."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Some settings. Raises InvalidConfigError when a value isn't allowed."""

    CHECKS: ClassVar[Mapping[str, Check]] = {}
    """The checks of a class's own fields, by name."""

    def __post_init__(self) -> None:
        for cls in reversed(type(self).__mro__):
            for name, (is_fine, wish) in vars(cls).get("CHECKS", {}).items():
                value = getattr(self, name)
                if not is_fine(value):
                    raise InvalidConfigError(
                        f"{name}={value!r} isn't {wish}",
                        hint="leave it out for the preset's value",
                    )
        for cls in reversed(type(self).__mro__):
            if "check_together" in vars(cls):
                vars(cls)["check_together"](self)

    def check_together(self) -> None:
        """Returns if the values of the class's own fields fit each other."""

    def to_json(self) -> dict[str, int | float | str | bool | None]:
        """Every field by name, JSON-ready."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> Self:
        """The inverse of `to_json`. Raises InvalidConfigError."""
        annotated = typing.get_type_hints(cls)
        hints = {each.name: annotated[each.name] for each in dataclasses.fields(cls)}
        return cls(**{name: _check_type(hints, name, value) for name, value in fields.items()})

    def with_changes(self, changes: Mapping[str, object]) -> Self:
        """A copy of this configuration with some values changed. Raises InvalidConfigError."""
        return self.from_json({**self.to_json(), **changes})


def at_least(least: float) -> Check:
    """None, or a finite number from `least` on."""
    return lambda value: value is None or least <= value < float("inf"), f"{least} or more"


def one_of(literal: object) -> Check:
    """One of the values of a `Literal`."""
    choices = typing.get_args(literal)
    return lambda value: value in choices, f"one of {', '.join(choices)}"


POSITIVE: Check = (lambda value: value is None or 0 < value < float("inf"), "above 0")
SHARE: Check = (lambda value: 0 <= value < 1, "a share from 0 to below 1")
RATIO: Check = (lambda value: 0 < value < 1, "a share between 0 and 1")

_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


def _check_type(hints: Mapping[str, Any], name: str, value: object) -> Any:
    """The value, converted from text to the field's type if needed."""
    if name not in hints:
        raise InvalidConfigError(
            f"there is no setting {name!r}",
            hint=did_you_mean(name, hints) + f"there are: {', '.join(hints)}",
        )
    hint = hints[name]
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if type(None) in kinds and value in (None, "none"):
        return None
    kind = next(each for each in kinds if each is not type(None))
    if kind is bool and value in ("true", "false"):
        return value == "true"
    if kind not in (bool, int, float):
        return value
    try:
        is_number = kind is not bool
        if is_number and (isinstance(value, str) or (kind is float and type(value) is int)):
            return kind(value)
    except ValueError:
        pass
    if type(value) is not kind:
        raise InvalidConfigError(
            f"{name}={value!r} isn't {_KINDS[kind]}",
            hint="leave it out for the preset's value",
        )
    return value
