"""A stored curve with everything that says where it comes from. Knows no database and no file."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.plan.spec import SweepSpec, grid_to_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurveRecord:
    """A curve with everything that says where it comes from."""

    curve_id: str
    sweep_id: str
    installation: str
    """Identity of the installation whose host measured it."""
    host: str
    """The host's name there."""
    spec: SweepSpec
    created_at: dt.datetime
    """When the sweep was asked for."""
    curve: LatencyCurve

    def describe(self) -> Mapping[str, object]:
        """All of it but the points, by name, as values for JSON."""
        curve, spec = self.curve, self.spec
        return {
            "curve_id": self.curve_id,
            "sweep_id": self.sweep_id,
            "installation": self.installation,
            "host": self.host,
            "kind": curve.workload.kind,
            "params": dict(curve.workload.params),
            "axes": list(curve.workload.axes),
            "workload": curve.workload.key,
            "platform_key": curve.platform.key,
            "platform": curve.platform.to_json(),
            "protocol_key": curve.protocol.key,
            "protocol": dataclasses.asdict(curve.protocol),
            "mode": spec.mode,
            "grid": grid_to_json(curve.grid),
            "terms": spec.terms.to_json(),
            "seed": spec.seed,
            "budget_s": spec.budget_s,
            "tau": spec.tau,
            "created_at": self.created_at.isoformat(),
            "measured_at": curve.measured_at.isoformat(),
            "evidence": curve.evidence.to_json(),
            "failures": {str(k): v for k, v in curve.failures.items()},
        }
