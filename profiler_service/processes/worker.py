"""The worker of one host: job → plan → measure → curve → store.

Puts the measuring side together: connects `SweepRunner`, which does the work, with the job engine,
the host's lock, the heartbeat and the signals.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator

from profiler_service import jobs
from profiler_service.errors import HostRefusedError, HostTakenError, StoreUnavailableError
from profiler_service.measurement.device_lock import hold_device
from profiler_service.measurement.identity import (
    correct_device_id,
    find_device_id,
    find_machine_id,
)
from profiler_service.measurement.measurer import Measurer
from profiler_service.measurement.processors import pin_away
from profiler_service.measurement.turn import DeviceTurn
from profiler_service.plan.base import Planner
from profiler_service.plan.create import create_planner
from profiler_service.plan.spec import SweepSpec
from profiler_service.processes.attendance import AWAY_S, HEARTBEAT_S, Attendance, Lease
from profiler_service.processes.batch_measurer import BatchMeasurer
from profiler_service.processes.canaries import Canaries
from profiler_service.processes.dashboard_points import DashboardPoints
from profiler_service.processes.exit_codes import CANNOT_RUN, PLATFORM_CHANGED, TRY_LATER
from profiler_service.processes.exploration import Exploration
from profiler_service.processes.idle_pruning import IdlePruning
from profiler_service.processes.idle_races import IdleRaces
from profiler_service.processes.keeper_line import Tell, Told, tell_nobody
from profiler_service.processes.kernel_naming import KernelNaming
from profiler_service.processes.learning import Learning
from profiler_service.processes.platform_replay import PlatformReplay
from profiler_service.processes.rechecks import Rechecks
from profiler_service.processes.sweep_runner import StopRequest, SweepRunner
from profiler_service.settings import Settings
from profiler_service.storage.database import find_sqlite_path, has_changed, parse_url
from profiler_service.storage.store import CLOCK_SKEW_S, Host, HostStatus, Store, WorkerIdentity

logger = logging.getLogger(__name__)

STOP_LIMIT_S = 5.0
"""After this time, a worker that was told to stop ends without cleaning up. That is safe."""


def create_measurer(settings: Settings) -> Measurer:
    """A measurer as `settings` describe it, with all its processes ready.

    Raises MeasurementFailedError.
    """
    measurer = Measurer(
        device=settings.device,
        threads=settings.threads,
        cache=settings.cache,
        children=settings.children,
        keep_variables=[name for name in settings.keep_variables.split(",") if name],
    )
    measurer.wait_for_children()
    return measurer


def run(
    settings: Settings,
    *,
    create_measurer: Callable[[Settings], BatchMeasurer] = create_measurer,
    create_planner: Callable[[SweepSpec], Planner] = create_planner,
    tell: Tell = tell_nobody,
) -> None:
    """Measures this host's sweeps until SIGTERM or SIGINT, then returns; main thread only.

    Tells its keeper once it measures.

    On a signal, the current batch is finished or broken off within about two seconds. Earlier
    batches are kept, and the sweep goes on when a worker starts again.

    Raises:
        WorkerAlreadyRunningError: another worker measures on this device.
        HostTakenError: another worker measures elsewhere under this host's name.
        StoreError: the database can't be used at the start. (Later, the worker waits for it.)
        SchemaTooNewError: an upgrade of the database has left this version behind meanwhile.
        MeasurementFailedError: the machine doesn't have the device asked for.
        SystemExit: with the code PLATFORM_CHANGED, if the platform has changed meanwhile; with
            TRY_LATER, if another worker has taken this host's name meanwhile; with CANNOT_RUN, if
            an operator has removed the host meanwhile.
        HostRefusedError: the host is removed or quarantined.
    """
    with _stop_on_signals() as stop, contextlib.ExitStack() as stack:
        device_id = find_device_id(settings.device)
        lock = stack.enter_context(_hold_device(device_id, settings))
        store = Store.open(
            settings.database_url,
            timeout_s=settings.database_timeout_s,
            worker=_identify_worker(lock),
        )
        stack.callback(store.close)
        if (name := store.find_joined_name()) is not None:
            # Operators name a host that has joined.
            settings = settings.model_copy(update={"host": name})
        lease = Lease(store, settings.host)
        stack.enter_context(lease.held())
        if find_sqlite_path(parse_url(settings.database_url)) is not None:
            jobs.upgrade(settings)  # on PostgreSQL, only an operator changes tables
        measurer = create_measurer(settings)
        stack.callback(measurer.close)
        measured_id = correct_device_id(device_id, kind=measurer.platform.device)
        if measured_id != device_id:
            stack.enter_context(_hold_device(measured_id, settings))
        pin_away(measurer.measured_cpus)
        host = store.register_host(
            settings.host,
            measurer.platform,
            protocol=measurer.protocol,
            dtypes=measurer.dtypes,
            backends=measurer.backends,
            quarantine_changed=settings.on_platform_change == "quarantine",
        )
        if host.offered_platform_key is not None and settings.on_platform_change == "inherit":
            logger.warning("a host that joined with a key inherits nothing until it is approved")
        _wait_for_approval(store, host, tell)
        client = jobs.JobClient(settings, pool=store.shared_pool)
        stack.callback(client.close)
        client.list_jobs()  # raises now if the engine's tables aren't there
        replay = PlatformReplay(store, host, client.enqueue, settings)
        canaries = Canaries(store, host, client.enqueue, settings)
        idle_races = IdleRaces(store, host, client.enqueue, share=settings.idle_share)
        rechecks = Rechecks(store, host, idle_races)
        exploration = Exploration(store, host, idle_races, settings)
        pruning = IdlePruning(store, settings.host, keep_days=settings.keep_raw_days)
        points = DashboardPoints(store, settings.host, max_points=settings.dashboard_points)
        learning = Learning(store, host) if settings.learn else None
        runner = SweepRunner(
            store=store,
            measurer=measurer,
            create_planner=create_planner,
            yield_s=settings.yield_s,
            device_turn=DeviceTurn(measured_id, partition=settings.partition),
            tell=tell,
            naming=KernelNaming(store, settings.host, measurer),
            learning=learning,
        )
        job_runner = jobs.JobRunner(settings, runner.run_batch, pool=store.shared_pool)
        stack.callback(job_runner.close)
        stack.callback(runner.stop)
        attendance = Attendance(store, lease, settings.host, client=client, runner=job_runner)
        logger.info("measuring for host %s on %s", settings.host, measurer.platform.device_model)
        tell(Told(state="measuring"))
        said = ""
        while True:
            wrong = ""
            try:
                status = attendance.beat()
                if client.has_lost_tables():
                    # Nothing was in them that the next worker doesn't make anew from the store.
                    stop(TRY_LATER)
                attendance.tend_engine(sleep_after_s=settings.sleep_after_s)
                if status.takes_sweeps:
                    replay.consider()
                    canaries.consider()
                    if rechecks.consider() is None and settings.learn:
                        exploration.consider()
                    runner.name_kernels_if_idle()
                if learning is not None:
                    learning.catch_up()
                pruning.consider()
                points.consider(is_idle=not job_runner.is_awake)
            except HostRefusedError as error:
                logger.error("%s: this worker ends (%s)", error, error.hint)
                tell(Told(state="ending", reason=f"{error} ({error.hint})"))
                stop(CANNOT_RUN)
            except StoreUnavailableError as error:
                wrong = str(error)
                if has_changed(error):
                    store.refuse_newer_schema()
            except HostTakenError as error:
                logger.error("%s: this worker ends (%s)", error, error.hint)
                tell(Told(state="ending", reason=f"{error} ({error.hint})"))
                stop(TRY_LATER)
            if wrong and wrong != said:
                logger.warning("%s; trying again every %g s", wrong, AWAY_S)
            elif said and not wrong:
                logger.info("the database can be used again")
            said = wrong
            if job_runner.put_off and not wrong:
                store.refuse_newer_schema()  # the sweeps use more of the schema than heartbeats do
            if attendance.wait(runner.platform_changed, is_away=bool(wrong)):
                tell(Told(state="ending", reason="the platform has changed"))
                stop(PLATFORM_CHANGED)


def _wait_for_approval(store: Store, host: Host, tell: Tell) -> None:
    """Returns when the host may measure, and says that it waits. Names a clock that is wrong.

    Raises HostRefusedError.
    """
    status, skew_s = store.touch_host(host.name)
    if abs(skew_s) > CLOCK_SKEW_S:
        logger.warning(
            "this machine's clock is %g s %s the database's; only the database's counts, but logs"
            " will disagree: set the clock (chrony, systemd-timesyncd)",
            abs(skew_s),
            "ahead of" if skew_s > 0 else "behind",
        )
    if status is HostStatus.PENDING:
        reason = f"host {host.name!r} waits for approval: `lhp hosts approve {host.name}`"
        logger.warning("%s", reason)
        tell(Told(state="standing by", reason=reason))
    while status is HostStatus.PENDING:
        time.sleep(HEARTBEAT_S)
        try:
            status, _ = store.touch_host(host.name)
        except HostRefusedError:
            raise
        except StoreUnavailableError as error:
            logger.warning("%s; trying again", error)


def _hold_device(device_id: str, settings: Settings) -> contextlib.AbstractContextManager[str]:
    return hold_device(device_id, host=settings.host, partition=settings.partition)


def _identify_worker(device_lock: str) -> WorkerIdentity:
    return WorkerIdentity(
        id=uuid.uuid4().hex,
        description=f"process {os.getpid()} on {platform.node()}",
        device_lock=device_lock,
        machine=find_machine_id(),
    )


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[Callable[[int], None]]:
    """In this context, the first SIGTERM or SIGINT raises StopRequest, which the context catches.

    Gives a function that raises a StopRequest with another exit code, which the context doesn't
    catch. After either, the process ends within STOP_LIMIT_S, even if a thread waits for a database
    that doesn't answer.
    """
    watchdog: threading.Timer | None = None

    def stop(code: int) -> None:
        nonlocal watchdog
        if watchdog is None:
            watchdog = threading.Timer(STOP_LIMIT_S, os._exit, (code,))
            watchdog.daemon = True
            watchdog.start()
            raise StopRequest(code)

    def stop_on_signal(_signal_number: int, _frame: object) -> None:
        stop(0)

    signals = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, stop_on_signal) for number in signals}
    try:
        yield stop
    except StopRequest as request:
        logger.info("stopped")
        if request.code:
            raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if watchdog is not None and all(
            t.daemon or t is threading.main_thread() for t in threading.enumerate()
        ):
            watchdog.cancel()
