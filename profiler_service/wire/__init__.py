"""Requests and responses: pydantic models, shared by the service and its clients.

Knows the domain's names, but neither HTTP nor how anything is found or stored.
"""

from profiler_service.wire.access import (
    AuditInfo,
    AuditPage,
    NewToken,
    TokenInfo,
    TokenPage,
    TokenRequest,
)
from profiler_service.wire.base import EvidenceInfo, RequestModel, ResponseModel
from profiler_service.wire.batch import (
    MAX_BATCH,
    BatchQuestion,
    LhpBatchAnswer,
    LhpBatchItem,
    LhpBatchRequest,
)
from profiler_service.wire.crossover import (
    CrossoverAnswer,
    CrossoverQuery,
    KernelCrossover,
    SparsePoint,
)
from profiler_service.wire.curve_comparison import (
    ComparedCurve,
    CurveComparison,
    CurveDifference,
    CurveLikeness,
    CurveRatios,
    CurveRatioSummary,
)
from profiler_service.wire.curves import (
    BinInfo,
    CurveDetail,
    CurveInfo,
    CurvePage,
    CurvePoints,
    CurvesQuery,
    FailedPoint,
)
from profiler_service.wire.facts import FactInfo, FactPage, FactsQuery, RepeatabilityInfo
from profiler_service.wire.fleet_sweeps import FleetSweepInfo, FleetSweepPage, FleetSweepRequest
from profiler_service.wire.hosts import (
    HostChange,
    HostInfo,
    HostState,
    ParameterInfo,
    PlatformInfo,
    WorkloadInfo,
)
from profiler_service.wire.joining import (
    JoinInfo,
    JoinKeyInfo,
    JoinKeyPage,
    JoinKeyRequest,
    JoinRequest,
    KeptJoinKey,
)
from profiler_service.wire.problems import PROBLEM_PATH, Health, Problem, ProblemType, WorkerInfo
from profiler_service.wire.quantities import WRITTEN_TIME, parse_duration, parse_share
from profiler_service.wire.questions import (
    FasterBackend,
    LhpAnswer,
    LhpQuery,
    PlatformFigures,
)
from profiler_service.wire.sweeps import (
    AxisRange,
    GridAxisRange,
    ProgressInfo,
    RaceInfo,
    RaceStageInfo,
    SweepInfo,
    SweepPage,
    SweepRequest,
    parse_range,
)

__all__ = [
    "MAX_BATCH",
    "PROBLEM_PATH",
    "WRITTEN_TIME",
    "AuditInfo",
    "AuditPage",
    "AxisRange",
    "BatchQuestion",
    "BinInfo",
    "ComparedCurve",
    "CrossoverAnswer",
    "CrossoverQuery",
    "CurveComparison",
    "CurveDetail",
    "CurveDifference",
    "CurveInfo",
    "CurveLikeness",
    "CurvePage",
    "CurvePoints",
    "CurveRatioSummary",
    "CurveRatios",
    "CurvesQuery",
    "EvidenceInfo",
    "FactInfo",
    "FactPage",
    "FactsQuery",
    "FailedPoint",
    "FasterBackend",
    "FleetSweepInfo",
    "FleetSweepPage",
    "FleetSweepRequest",
    "GridAxisRange",
    "Health",
    "HostChange",
    "HostInfo",
    "HostState",
    "JoinInfo",
    "JoinKeyInfo",
    "JoinKeyPage",
    "JoinKeyRequest",
    "JoinRequest",
    "KeptJoinKey",
    "KernelCrossover",
    "LhpAnswer",
    "LhpBatchAnswer",
    "LhpBatchItem",
    "LhpBatchRequest",
    "LhpQuery",
    "NewToken",
    "ParameterInfo",
    "PlatformFigures",
    "PlatformInfo",
    "Problem",
    "ProblemType",
    "ProgressInfo",
    "RaceInfo",
    "RaceStageInfo",
    "RepeatabilityInfo",
    "RequestModel",
    "ResponseModel",
    "SparsePoint",
    "SweepInfo",
    "SweepPage",
    "SweepRequest",
    "TokenInfo",
    "TokenPage",
    "TokenRequest",
    "WorkerInfo",
    "WorkloadInfo",
    "parse_duration",
    "parse_range",
    "parse_share",
]
