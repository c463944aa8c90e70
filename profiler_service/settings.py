"""Settings: environment variables `LHP_*`, read once when a program starts.

Doesn't know how they are used.
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from profiler_service.host_name import check_host_name
from profiler_service.loopback import is_loopback
from profiler_service.setting_checks import (
    MAX_CANARIES,
    check_canaries,
    check_device,
    check_hosts,
    check_networks,
    check_origins,
    check_rate,
    check_variables,
    with_one_slash,
)


def default_data_dir() -> Path:
    """The user's data directory for this project (XDG).

    Begins with `~` if the home directory isn't known: no HOME, and no passwd entry.
    """
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(_expand_user(base)) / "lhp"


def _expand_user(path: str) -> str:
    """The path; a `~` at its start becomes the home directory, and stays if that isn't known."""
    # An empty HOME is as good as none. Python would take it for the root directory.
    is_known = os.environ.get("HOME") != ""
    return os.path.expanduser(path) if is_known else path  # noqa: PTH111


def _find_host_name() -> str:
    """The machine's name; `localhost` if it has none that a host can have."""
    try:
        return check_host_name(platform.node())
    except ValueError:
        return "localhost"


def _expand_home(url: str) -> str:
    """The URL of a SQLite file; a `~` at the start of its path becomes the home directory."""
    match = re.fullmatch(r"(sqlite(?:\+pysqlite)?:///)(~.*)", url)
    return url if match is None else match[1] + _expand_user(match[2])


class Settings(BaseSettings):
    """Everything that operators can set, with defaults."""

    model_config = SettingsConfigDict(env_prefix="LHP_", extra="ignore")

    database_url: Annotated[str, AfterValidator(_expand_home)] = Field(
        default_factory=lambda: f"sqlite:///{default_data_dir() / 'lhp.sqlite'}",
        description="SQLAlchemy URL of the database: sqlite:///PATH or postgresql://…",
    )
    host: Annotated[str, AfterValidator(check_host_name)] = Field(
        default_factory=_find_host_name,
        description="Name of this machine, under which it registers and questions ask for it:"
        " printable characters, 255 at most.",
    )
    device: Annotated[str, AfterValidator(check_device)] = Field(
        default="auto", description="`cpu`, `cuda`, or `auto` (CUDA if there is any)."
    )
    threads: int = Field(
        default=0,
        ge=0,
        description="Threads of a measured call; 0: one on each fast core, except the core of the"
        " first processor.",
    )
    children: int = Field(
        default=4,
        ge=1,
        le=8,
        description="Measuring processes, one of which measures at a time. Each has its own place"
        " in memory, which changes latencies a little. Of an even number, one half chooses the"
        " larger dims and the other half confirms them, which makes margins smaller. Each takes"
        " about 150 MB, and on a GPU some hundred MB of its memory.",
    )
    partition: str = Field(
        default="",
        description="Part of a divided machine (cpusets, MIG) that this worker measures on; on each"
        " part, as on an undivided machine, one worker measures at a time.",
    )
    cache: Literal["warm", "flushed"] = Field(
        default="warm",
        description="`warm`: as the last call left it; `flushed`: without its operands (GPU).",
    )
    listen: str = Field(default="127.0.0.1", description="Address to listen on.")
    root_path: Annotated[str, AfterValidator(with_one_slash)] = Field(
        default="",
        description="Path that a proxy puts before this service's own and strips, such as /lhp.",
    )
    allowed_hosts: Annotated[str, AfterValidator(check_hosts)] = Field(
        default="",
        description="Names of this service behind a proxy, separated by commas; `*.example.com` for"
        " all below. Requests for other names than these and loopback are refused.",
    )
    allowed_origins: Annotated[str, AfterValidator(check_origins)] = Field(
        default="",
        description="Web pages of other sites that may use this service from a browser: their"
        " origins, separated by commas, such as `https://tools.example` (with the port if it isn't"
        " the usual one). `*`: pages of every site may read, and start nothing. Pages send a token"
        " in the header `Authorization`; a browser sends no cookies and passwords of its own.",
    )
    trusted_proxies: Annotated[str, AfterValidator(check_networks)] = Field(
        default="",
        description="Addresses or networks of proxies whose `X-Forwarded-For` is believed,"
        " separated by commas. With a proxy, the service always needs tokens.",
    )
    ssl_certfile: str = Field(
        default="", description="File with the certificate (PEM) for HTTPS, and its chain."
    )
    ssl_keyfile: str = Field(default="", description="File with the certificate's key (PEM).")
    rate_limit: Annotated[str, AfterValidator(check_rate)] = Field(
        default="1000/second",
        description="Requests that one token may send, or an address without one, for each process"
        " of the service: a number each `/second`, `/minute` or `/hour`; empty for any number.",
    )
    open_metrics: bool = Field(
        default=False, description="Whether /metrics can be read without a token."
    )
    canaries: Annotated[str, AfterValidator(check_canaries)] = Field(
        default="",
        description="Points by which the hosts of one platform are compared: dims of `linear`,"
        f" separated by semicolons, {MAX_CANARIES} at most. Idle workers that have the setting"
        " measure them; a service that has it names hosts that deviate, and shows the newest"
        " latencies at /metrics.",
    )
    canary_every_s: float = Field(
        default=21_600,
        ge=0,
        description="An idle worker measures each of LHP_CANARIES again after so long, seconds;"
        " 0: never by itself.",
    )
    canary_share: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Share of its time that an idle worker may spend on LHP_CANARIES.",
    )
    canary_tolerance: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Hosts of one platform may differ by this share at LHP_CANARIES. One that"
        " surely differs by more from most others is named.",
    )
    max_connections: int = Field(
        default=512, ge=1, description="Most connections at a time, and most requests under way."
    )
    client_share: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="Largest share that one client may have: an address of the connections, a token"
        " of the requests under way and of the streams of events. This machine and the proxies of"
        " LHP_TRUSTED_PROXIES may have all connections: several clients share their addresses.",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0: any free.")
    keep_variables: Annotated[str, AfterValidator(check_variables)] = Field(
        default="",
        description="Environment variables that a measuring process gets besides those that"
        " measuring needs: names or patterns such as `MINE_*`, separated by commas. For kinds of"
        " your own.",
    )
    max_dim: int = Field(
        default=1 << 20,
        ge=1,
        le=999_999_999,
        description="Largest dimension accepted in a query or sweep, whether it varies or not.",
    )
    max_points: int = Field(default=65_536, ge=1, description="Most points in one sweep's grid.")
    max_cached_points: int = Field(
        default=2_000_000,
        ge=1,
        description="Points of curves that each process of the service keeps in memory, 60 bytes"
        " each. A question about a curve that isn't kept reads it from the database first.",
    )
    max_window_points: int = Field(
        default=2_000_000, ge=1, description="Most points in a window measured for one query."
    )
    max_survey_points: int = Field(
        default=65_536,
        ge=1,
        description="Most points in a window of which every point is measured before a query is"
        " answered.",
    )
    max_axis_points: int = Field(
        default=1025,
        ge=2,
        description="Most dimensions on one axis of a window: how far a query looks at most, and"
        " what a race accepts. A race's own computing grows with the cube of it: at 1,025 on two"
        " axes, it takes 2 to 10 seconds of one core.",
    )
    max_operand_bytes: int = Field(
        default=1 << 30, ge=1, description="Most memory one call's operands may take, bytes."
    )
    max_sweep_s: float = Field(
        default=86_400,
        gt=0,
        description="Longest estimated time of a sweep without a budget, seconds.",
    )
    max_queued: int = Field(
        default=1000, ge=1, description="Most sweeps that one host may have to measure."
    )
    max_queued_per_client: int = Field(
        default=500,
        ge=1,
        description="Most of these that one client may have asked for. Clients are told apart by"
        " their addresses: all behind one proxy are one client.",
    )
    max_wait_s: float = Field(default=120, gt=0, description="Longest a query may wait, seconds.")
    database_timeout_s: float = Field(
        default=4,
        gt=0,
        description="Longest wait for the database, seconds. A request takes this and one second"
        " longer than its `wait` at most.",
    )
    database_answer_s: float = Field(
        default=2,
        gt=0,
        description="The database is away once it takes longer to answer a check, seconds."
        " /healthz and /readyz say so, and nothing new is measured meanwhile.",
    )
    presence_s: float = Field(
        default=15, gt=0, description="A host without a sign of life for so long is away, seconds."
    )
    sleep_after_s: float = Field(
        default=10,
        ge=0,
        description="A worker on PostgreSQL that had nothing to measure for so long stops looking"
        " for work by itself, seconds. The database then tells it of the next sweep.",
    )
    yield_s: float = Field(
        default=10,
        ge=0,
        le=3600,
        description="Longest that a sweep waits while others use the GPU, seconds. After that it"
        " measures, and its answers are marked `disturbed`.",
    )
    idle_share: float = Field(
        default=0,
        ge=0,
        le=1,
        description="Share of its time that an idle worker may spend on confirming its oldest facts"
        " again, and then on measuring where its model is least sure; 0: none.",
    )
    on_platform_change: Literal["auto", "inherit", "quarantine"] = Field(
        default="auto",
        description="What a worker does when its machine has become another platform, by a new"
        " torch, for example. `inherit`: it measures on the new one at once. `quarantine`: it waits"
        " until an operator approves the new one. `auto`: a host that joined with a key waits, as"
        " it always does; any other inherits. Then facts are measured again, and if they agree,"
        " what was learned before counts half.",
    )
    learn: bool = Field(
        default=True,
        description="Whether hosts learn from their sweeps: races start from what is known then,"
        " and answers can be predicted.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="Form of log lines: `text` for people, `json` for programs, one object a line.",
    )
    keep_raw_days: float = Field(
        default=0,
        ge=0,
        description="An idle worker prunes the raw samples of sweeps that ended so many days ago;"
        " 0: never. First visits, curves and facts stay.",
    )
    dashboard_points: int = Field(
        default=65_536,
        ge=0,
        description="Most measured points of a curve that dashboards can read. In PostgreSQL,"
        " workers store them a second time for the views in the schema `dashboards`, while no"
        " question waits; 0: none.",
    )
    runs: Annotated[str, AfterValidator(_expand_user)] = Field(
        default="",
        description="Folder of training runs: each a directory that `lhp-train --out` wrote. Pages"
        " show them to everybody who may read. Empty: there are no such pages.",
    )
    reader_password: SecretStr = Field(
        default=SecretStr(""),
        description="Password for the role that `lhp db add-reader` makes or changes.",
    )
    join_key: SecretStr = Field(
        default=SecretStr(""),
        description="Join key with which a worker joins the service at LHP_URL when it starts, as"
        " `lhp join` does: for containers.",
    )
    join_database: str = Field(
        default="",
        description="PostgreSQL as hosts that join reach it, where that differs from"
        " LHP_DATABASE_URL: postgresql://HOST:PORT/DATABASE.",
    )
    url: str = Field(
        default="http://127.0.0.1:8000", description="Address of the service that the commands ask."
    )

    token: SecretStr = Field(
        default=SecretStr(""),
        description="Access token that the commands and the Python client send.",
    )

    @property
    def is_exposed(self) -> bool:
        """Whether others than programs of this machine may reach the service."""
        return bool(self.trusted_proxies) or not is_loopback(self.listen)

    @property
    def longest_answer_s(self) -> float:
        """How long a request may take that waits for nothing but the database."""
        return self.database_timeout_s + 1

    def share_of_client(self, most: int) -> int:
        """How many of `most` one client may have."""
        return max(1, int(most * self.client_share))
