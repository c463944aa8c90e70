"""Workload kinds, and frozen descriptions of workloads with stable keys.

Pure: imports neither torch nor SQL nor HTTP. A kind names the function that builds the
measured call as "module:function"; only the measuring child process imports it. Knows no
kind itself: the kinds are in `profiler_service.kinds`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from profiler_service.errors import InvalidDimsError, InvalidWorkloadError
from profiler_service.grid import MAX_DIM
from profiler_service.suggestions import did_you_mean

ParamValue = int | str
Dims = tuple[int, ...]

VARY = "vary"
"""The parameter of a workload that says what varies, if that isn't the kind's own axes."""
MAX_AXES = 16

OWN_CODE = "callable"
"""Name of the kind whose calls are a user's own code: no host measures it."""

QUESTION_OPTIONS = frozenset(
    (
        *("dims", "workload", "vary", "prefer", "slack", "effort", "max_growth", "multiple_of"),
        *("wait", "budget", "margin", "settle", "max_age", "host", "platform"),
        *("platforms", "label", "basis", "unproven"),
        *("verdict", "since", "cursor", "limit"),
    )
)
"""What `GET /lhp` and `GET /facts` take besides the parameters of a workload, by the same way. No
kind may use these names: its parameter couldn't be given."""

DTYPE_SIZES_BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}


_WHOLE_NUMBERS = re.compile(r"\s*[0-9]+\s*(,\s*[0-9]+\s*)*")
_THOUSANDS = re.compile(r"[0-9]{1,3}(,[0-9]{3})+")
_WHOLE_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A fixed parameter of a workload kind: its default, and what is allowed.

    A string parameter lists its `choices`. A whole-number parameter has `minimum` and
    `maximum`, both included. A decimal parameter has at most `decimals` decimals, and is at least
    `minimum` and below `maximum`. Its value is text without extra zeros (`0.9`), so that equal
    numbers are equal texts.
    """

    name: str
    default: ParamValue
    description: str
    choices: tuple[str, ...] = ()
    minimum: int = 1
    maximum: int = 1 << 20
    decimals: int = 0
    omitted_at_default: bool = False
    """Whether a workload leaves it out when it has its default. True for a parameter that was added
    to a kind later, so that the keys of earlier workloads stay the same."""
    is_dim: bool = False
    """Whether it is a dimension, so that the service's bound for dimensions holds for it, too."""

    @property
    def can_vary(self) -> bool:
        """Whether it can be an axis: it is a whole number."""
        return isinstance(self.default, int)

    def parse(self, value: object) -> ParamValue:
        """The value, checked and converted to its type. Raises InvalidWorkloadError."""
        if self.decimals:
            return self._parse_decimal(value)
        if isinstance(self.default, str):
            if value not in self.choices:
                raise InvalidWorkloadError(
                    f"{self.name}={value!r} is not one of {', '.join(self.choices)}",
                    hint=did_you_mean(value, self.choices)
                    + f"choose {self.name} from: {', '.join(self.choices)}",
                )
            return str(value)
        # int() alone would accept "١٦", "1_6" and 16.9.
        text = str(value)
        if isinstance(value, bool) or _WHOLE_NUMBER.fullmatch(text) is None:
            raise InvalidWorkloadError(
                f"{self.name}={text[:80]!r} is not a whole number",
                hint=f"{self.name} takes a whole number from {self.minimum} to {self.maximum}",
            )
        # Longer texts aren't parsed, because int() refuses thousands of digits.
        number = int(text) if len(text) <= 9 else None
        if number is None or not self.minimum <= number <= self.maximum:
            raise InvalidWorkloadError(
                f"{self.name}={text[:80]} is outside {self.minimum} to {self.maximum}",
                hint=f"{self.name} takes a whole number from {self.minimum} to {self.maximum}",
            )
        return number

    def _parse_decimal(self, value: object) -> str:
        # float() alone would accept "nan", "1_0" and "١".
        text = str(value)
        is_number = re.fullmatch(rf"[0-9]{{1,9}}(\.[0-9]{{0,{self.decimals}}}0*)?", text)
        if (
            isinstance(value, bool)
            or len(text) > 80
            or is_number is None
            or not self.minimum <= float(text) < self.maximum
        ):
            raise InvalidWorkloadError(
                f"{self.name}={text[:80]!r} isn't a number from {self.minimum} to below"
                f" {self.maximum} with at most {self.decimals} decimals",
                hint=f"{self.name} takes a number from {self.minimum} to below {self.maximum}",
            )
        whole, _, fraction = text.partition(".")
        fraction = fraction.rstrip("0")
        return f"{int(whole)}.{fraction}" if fraction else f"{int(whole)}"


@dataclass(frozen=True, kw_only=True)
class WorkloadKind:
    """A family of workloads: named axes, fixed parameters, and how to build the call.

    `builder` is "module:function". Only the measuring child calls the function (see
    `profiler_service.measurement.operations`).
    `operand_bytes(dims, params)` is the memory of all operands and results of one call. It must
    be computable before anything is allocated.
    """

    name: str
    axes: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    builder: str
    operand_bytes: Callable[[Dims, Mapping[str, ParamValue]], int] = field(compare=False)
    flops: Callable[[Dims, Mapping[str, ParamValue]], int] = field(compare=False)
    description: str = ""
    check: Callable[[Mapping[str, ParamValue]], None] | None = field(default=None, compare=False)
    """Raises InvalidWorkloadError for values that are each allowed, but not together. Gets all
    parameters; those that vary with the values of one point."""
    multiples: Callable[[Mapping[str, ParamValue]], Dims] | None = field(
        default=None, compare=False
    )
    """What the dims of the kind's own axes must be multiples of, for all its parameters: as the
    width of a transformer is divided among its heads. Any dims if it is None."""
    has_few_launches: bool = False
    """Whether a call starts few kernels on a GPU, sixteen at most. Such calls are timed as they are
    launched. The others are captured in a CUDA graph first, because no host launches so many
    kernels as fast as a GPU carries them out."""

    @functools.cached_property
    def _sorted_parameters(self) -> tuple[tuple[Parameter, ParamValue], ...]:
        """The parameters by name, each with its default as it is parsed."""
        by_name = sorted(self.parameters, key=lambda p: p.name)
        return tuple((each, each.parse(each.default)) for each in by_name)

    @property
    def can_vary(self) -> tuple[str, ...]:
        """Names of all that can be an axis: the kind's own axes, and whole-number parameters."""
        return (*self.axes, *(each.name for each in self.parameters if each.can_vary))

    def find_taken_names(self) -> tuple[str, ...]:
        """The kind's axes and parameters that have the name of an option of a question."""
        names = (*self.axes, *(each.name for each in self.parameters))
        return tuple(name for name in names if name in QUESTION_OPTIONS)

    def describe(self, given: Mapping[str, object] | None = None) -> Workload:
        """The workload of this kind with the parameters `given` and defaults for the rest.

        With `vary` among them (`batch,out_features`), these are its axes instead of the kind's own,
        which then need values. Raises InvalidWorkloadError for an unknown parameter or a value not
        allowed.
        """
        items = tuple((given or {}).items())
        if all(type(value) is str for _, value in items):
            return self._describe_texts(items)  # 1 and True are equal keys; texts aren't
        return self._describe(items)

    @functools.cached_property
    def _describe_texts(self) -> Callable[[tuple[tuple[str, object], ...]], Workload]:
        """`_describe` that remembers the last workloads: the same texts are given repeatedly."""
        return functools.lru_cache(maxsize=1024)(self._describe)

    def _describe(self, items: tuple[tuple[str, object], ...]) -> Workload:
        given = dict(items)
        axes = self._read_axes(given.pop(VARY, None))
        if both := sorted(given.keys() & set(axes)):
            raise InvalidWorkloadError(
                f"{both[0]} varies, and can't have a value as well",
                hint=f"give it in dims, which are {','.join(axes)}; or say with {VARY} what varies",
            )
        fixed = [each for each in self._sorted_parameters if each[0].name not in axes]
        for axis in self.axes:
            if axis not in axes:
                if axis not in given:
                    raise InvalidWorkloadError(
                        f"{axis} neither varies nor has a value",
                        hint=f"add it as a parameter, {axis}=1024, or to {VARY}",
                    )
                fixed.append((Parameter(name=axis, default=1, maximum=MAX_DIM, description=""), 1))
        params: dict[str, ParamValue] = {} if axes == self.axes else {VARY: ",".join(axes)}
        for parameter, default in fixed:
            # Most questions give few parameters: their defaults needn't be parsed every time.
            value = (
                parameter.parse(given.pop(parameter.name)) if parameter.name in given else default
            )
            if value != parameter.default or not parameter.omitted_at_default:
                params[parameter.name] = value
        if given:
            known = [p.name for p in self.parameters]
            unknown = sorted(given)
            raise InvalidWorkloadError(
                f"workload {self.name!r} has no parameter {', '.join(map(repr, unknown))}",
                hint=did_you_mean(unknown[0], known) + f"its parameters are: {', '.join(known)}",
            )
        workload = Workload(kind=self.name, params=tuple(sorted(params.items())), axes=axes)
        if self.check is not None and self._has_fixed_parameters(workload):
            self.check(self.unfold([1] * len(axes), params)[1])
        return workload

    def _has_fixed_parameters(self, workload: Workload) -> bool:
        """Whether only axes of the kind's own vary."""
        return set(workload.axes) <= set(self.axes)

    def depends_on_point(self, workload: Workload) -> bool:
        """Whether the kind may allow some points of the workload and refuse others."""
        if self._has_fixed_parameters(workload):
            return self.multiples is not None and max(self._find_own_multiples(workload)) > 1
        return self.check is not None or self.multiples is not None

    def _find_own_multiples(self, workload: Workload) -> Dims:
        """What dims of the kind's own axes must be multiples of, if the parameters are fixed."""
        if self.multiples is None:
            return (1,) * len(self.axes)
        return self.multiples(self.unfold([1] * len(workload.axes), dict(workload.params))[1])

    def find_multiples(self, workload: Workload) -> Dims:
        """What the dims of each of the workload's axes must be multiples of.

        1 where any dimension is allowed, or where it depends on a parameter that varies.
        """
        if not self._has_fixed_parameters(workload):
            return (1,) * len(workload.axes)
        own = dict(zip(self.axes, self._find_own_multiples(workload), strict=True))
        return tuple(own[axis] for axis in workload.axes)

    def check_point(self, workload: Workload, dims: Sequence[int]) -> None:
        """Returns if the kind allows the dims and the values of all parameters at this point.

        Raises InvalidWorkloadError with what the kind says, and where.
        """
        if not self.depends_on_point(workload):
            return
        own, params = self.unfold(dims, dict(workload.params))
        try:
            self.check_dims(own, params)
        except InvalidWorkloadError as error:
            where = ", ".join(f"{a}={d}" for a, d in zip(workload.axes, dims, strict=True))
            raise InvalidWorkloadError(f"at {where}: {error}", hint=error.hint) from error

    def check_dims(self, own: Dims, params: Mapping[str, ParamValue]) -> None:
        """Returns if the kind allows these dims of its own axes with all these parameters.

        Raises InvalidWorkloadError.
        """
        if self.check is not None:
            self.check(params)
        if self.multiples is None:
            return
        for axis, dim, multiple in zip(self.axes, own, self.multiples(params), strict=True):
            if dim % multiple:
                raise InvalidWorkloadError(
                    f"{axis} must be a multiple of {multiple}",
                    hint=f"the next larger one is {axis}={dim + multiple - dim % multiple}",
                )

    def _read_axes(self, vary: object) -> tuple[str, ...]:
        """The axes that `vary` names; the kind's own if it is None. Raises InvalidWorkloadError."""
        if vary is None:
            return self.axes
        names = tuple(name.strip() for name in str(vary)[:1000].split(","))
        hint = f"these can vary: {', '.join(self.can_vary)}"
        for name in names:
            if name not in self.can_vary:
                is_known = any(name == each.name for each in self.parameters)
                because = f"{name} is no whole number" if is_known else f"there is no {name[:80]!r}"
                raise InvalidWorkloadError(
                    f"{VARY}={str(vary)[:80]}: {because} in {self.name!r}",
                    hint=did_you_mean(name, self.can_vary) + hint,
                )
        if len(set(names)) < len(names) or len(names) > MAX_AXES:
            raise InvalidWorkloadError(
                f"{VARY}={str(vary)[:80]} names something twice, or more than {MAX_AXES}", hint=hint
            )
        return names

    def unfold(
        self, dims: Sequence[int], params: Mapping[str, ParamValue]
    ) -> tuple[Dims, dict[str, ParamValue]]:
        """The kind's own dims, and all its parameters, at a point of one of its workloads.

        `dims` are those of the workload's axes, and `params` the workload's. `builder`,
        `operand_bytes` and `flops` take the result.
        """
        return unfold(self.axes, dims, params)

    @functools.cached_property
    def _dim_names(self) -> frozenset[str]:
        return frozenset((*self.axes, *(each.name for each in self.parameters if each.is_dim)))

    def find_fixed_dims(self, workload: Workload) -> Mapping[str, int]:
        """The dimensions that the workload has as parameters, by name: those that don't vary."""
        return {name: int(value) for name, value in workload.params if name in self._dim_names}

    def find_bounds(self, workload: Workload) -> tuple[tuple[int, int], ...]:
        """The smallest and the largest dimension allowed on each of the workload's axes."""
        if workload.axes == self.axes:
            return ((1, MAX_DIM),) * len(self.axes)
        bounds = {each.name: (each.minimum, each.maximum) for each in self.parameters}
        return tuple(bounds.get(axis, (1, MAX_DIM)) for axis in workload.axes)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One workload: kind, fixed parameters (sorted by name), and the axes, which vary.

    If these aren't the kind's own axes, the parameter `vary` names them.

    Equal workloads have equal keys, on every machine and in every version.
    """

    kind: str
    params: tuple[tuple[str, ParamValue], ...]
    axes: tuple[str, ...]

    @property
    def key(self) -> str:
        """Stable text, for example `linear[backend=dense,batch=16,dtype=float32]`."""
        return f"{self.kind}[{','.join(f'{name}={value}' for name, value in self.params)}]"

    def param(self, name: str) -> ParamValue:
        """The value of a fixed parameter. Raises KeyError if the kind has no such parameter."""
        return dict(self.params)[name]

    def check_dims(self, dims: Sequence[int]) -> Dims:
        """`dims` as a tuple, one positive dimension for each axis. Raises InvalidDimsError."""
        if len(dims) != len(self.axes):
            axes = "1 axis" if len(self.axes) == 1 else f"{len(self.axes)} axes"
            given = "1 dim was" if len(dims) == 1 else f"{len(dims)} dims were"
            hint = f"give {len(self.axes)}: " + ",".join(self.axes)
            if len(dims) > len(self.axes) and any(100 <= dim <= 999 for dim in dims[1:]):
                hint += "; write each number without a thousands separator: 1197"
            raise InvalidDimsError(
                f"{self.kind} has {axes} ({', '.join(self.axes)}), but {given} given", hint=hint
            )
        for name, dim in zip(self.axes, dims, strict=True):
            if not 1 <= dim <= MAX_DIM:
                raise InvalidDimsError(
                    f"{name}={dim} is outside 1 to {MAX_DIM}",
                    hint=f"give whole numbers from 1 to {MAX_DIM}",
                )
        return tuple(dims)


def unfold(
    axes: Sequence[str], dims: Sequence[int], params: Mapping[str, ParamValue]
) -> tuple[Dims, dict[str, ParamValue]]:
    """As `WorkloadKind.unfold`, for a kind with these axes."""
    if VARY not in params:
        return tuple(dims), dict(params)
    varied = zip(str(params[VARY]).split(","), dims, strict=True)
    whole = {**params, **dict(varied)}
    del whole[VARY]
    return tuple(int(whole.pop(axis)) for axis in axes), whole


def parse_dims(text: str) -> Dims:
    """Dims from text such as `1197,317`. Raises InvalidDimsError for anything else."""
    parts = text.split(",")
    hint = f"write dims as whole numbers from 1 to {MAX_DIM}, separated by commas: 1197,317"
    if len(parts) > 16 or _WHOLE_NUMBERS.fullmatch(text) is None:
        raise InvalidDimsError(f"dims {text[:80]!r} aren't a list of whole numbers", hint=hint)
    for part in parts:
        if len(part.strip()) > 9:
            raise InvalidDimsError(
                f"dimension {part.strip()[:80]} is larger than {MAX_DIM}", hint=hint
            )
    if ",0" in text and _THOUSANDS.fullmatch(text):
        raise InvalidDimsError(
            f"dims {text!r} look like one number with thousands separators",
            hint=f"write the number as {text.replace(',', '')},"
            f" or the dims as {','.join(str(int(part)) for part in parts)}",
        )
    return tuple(int(part) for part in parts)
