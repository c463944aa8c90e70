"""What to do about each problem, in Markdown, by the name of the error class."""

from __future__ import annotations

from collections.abc import Mapping

ADVICE: Mapping[str, str] = {
    "LhpError": """
This is the base of all problems. The service answers with it only if no more special one fits. Read
`detail` and `hint`. If they don't help, look into the service's log.
""",
    "InvalidRequestError": """
Correct the request as `hint` says. The same request will fail again, so don't repeat it. Requests
are checked strictly: a parameter that doesn't exist, or that is given twice, is refused too.
The parameters are listed in the [HTTP reference](../reference/http.md).
""",
    "InvalidDimsError": """
Give as many dims as the workload has axes, as whole numbers from 1 up, separated by commas:
`dims=1197,317`. [Workload kinds](../reference/workloads.md) lists the axes of each workload.
""",
    "InvalidWorkloadError": """
Give only parameters that the workload has, with values that it allows.
[Workload kinds](../reference/workloads.md) lists both, and so does `lhp workloads`.
""",
    "WindowTooLargeError": """
Ask for less: smaller dims, a smaller `max_growth`, larger steps, or a smaller batch. An operator
can raise the bounds: `hint` names the setting, such as `LHP_MAX_WINDOW_POINTS` or
`LHP_MAX_OPERAND_BYTES` ([settings](../reference/settings.md)).
""",
    "UnsupportedOnHostError": """
Choose another dtype or backend, or another host. `lhp hosts` and `GET /hosts` show what each host
supports.
""",
    "OwnCodeError": """
Run the command that `hint` names, on the machine that you want to know about: `lhp query
--callable` or `lhp sweep --callable` ([your own function](../guides/your-own-callable.md)).
Afterwards, the service answers from what was measured.
""",
    "IncomparableCurvesError": """
Choose curves of one workload kind with the same axes, timed alike, whose grids have points in
common. `lhp curves` lists the workload and the ranges of each. Platform, host, time and fixed
parameters may differ ([compare curves](../guides/curves.md#compare)).
""",
    "NotFoundError": """
Check the name or the path. `hint` says how to list the existing ones.
""",
    "UnknownWorkloadError": """
Choose one of the names that `lhp workloads` lists. If your own package brings this kind, install it
beside the service as well as on the host that measures, and start both again. `lhp workloads` also
names the packages that could not be loaded, and why
([add a workload kind](../guides/add-a-workload-kind.md)).
""",
    "UnknownPlatformError": """
Choose one of the keys that `GET /platforms` lists. A platform gets a new key when anything changes
that changes latencies: the driver, a library, the number of threads.
""",
    "UnknownHostError": """
Choose one of the names that `lhp hosts` lists. A host appears there when its worker has registered
for the first time.
""",
    "UnknownCurveError": """
List the curves with `lhp curves` or `GET /curves`, and copy the whole id.
""",
    "UnknownSweepError": """
List the sweeps with `GET /sweeps`, and copy the whole id.
""",
    "UnknownTokenError": """
List the tokens with `lhp tokens list`, and copy the whole id.
""",
    "UnknownJoinKeyError": """
List the join keys with `lhp hosts keys`, and copy the whole id.
""",
    "ConflictError": """
The request is valid, but not now. The usual case is a sweep that has ended or was cancelled by
someone else. Look at its state with `GET /sweeps/{id}`, and ask again if you still need the answer.
""",
    "HostNotAdmittedError": """
An operator has decided that the host measures nothing new for now, or hasn't decided yet. Ask for
another host. `lhp hosts` shows the state of each one; `lhp hosts approve` lets a host measure.
What it has measured is still answered, and the sweeps of a draining host end as they would.
""",
    "PlatformMismatchError": """
The request would mix latencies of different workloads, platforms or timing protocols. The answer
would be wrong. Compare curves of one platform only, or measure again on the platform that you need.
""",
    "HostAwayError": """
Start the worker on that host with `lhp worker` (`lhp serve` starts one for its own machine), or ask
for another host. If the worker has just started, wait some seconds and ask again: the response has
`Retry-After`. A host counts as away when nothing was heard of it for `LHP_PRESENCE_S` seconds
([the fleet](../guides/fleet.md)).
""",
    "HostStartingError": """
Ask again, after `Retry-After` seconds or with a longer `wait`: a question waits for a worker that
is starting, up to `wait`. `detail` says what is known about the worker. If it doesn't become
present, look at `GET /healthz` and the service's log.
""",
    "NotReadyError": """
Wait, and ask `/readyz` again after `Retry-After` seconds. `detail` says what the service waits for:
its database, or its own worker, which takes some seconds to start. If that takes much longer, the
service's log says why.
""",
    "TooManyRequestsError": """
Ask again after `Retry-After` seconds, and ask for less at the same time: `detail` names the limit.
""",
    "StoreError": """
The database can't be used as it is. `detail` says why. Ask the operator of the service.
""",
    "StoreUnavailableError": """
Wait and ask again: the response has `Retry-After`. The operator should check that the database runs
and that `LHP_DATABASE_URL` names it. Questions that were answered before are still answered from
memory.
""",
    "StoreUnusableError": """
Correct `LHP_DATABASE_URL`: it must be `sqlite:///PATH` or `postgresql://user:password@server/name`,
and a SQLite path must not name a file of another kind. Then start the service again. If `detail`
says that the file is malformed, it is damaged: put a backup in its place, or save what can be read
with `sqlite3 FILE .recover`.
""",
    "StoreLostError": """
Put the file back where it was; the service goes on by itself. If it is gone, restore it from a
backup, and restart the service and its workers. Questions answered before go on being answered from
memory; everything else is refused, so that nothing is written into a file that no longer exists
([monitor](../guides/monitor.md)).
""",
    "StoreNotWritableError": """
Make room on the disk that holds the database, and see that the file and its directory can be
written; for PostgreSQL, that the server isn't a read-only replica. Stored answers are still given.
""",
    "SchemaTooOldError": """
Run `lhp db upgrade` once, with the new version, on the machine of the service. Then start again
what was refused. Services and workers of the version before go on working meanwhile.
""",
    "SchemaTooNewError": """
A newer version of this software has upgraded the database. Install that version, or a newer one,
here too.
""",
    "MalformedHttpError": """
Use an HTTP library, and check what stands between it and the service. `detail` says what is wrong.
""",
    "MethodNotAllowedError": """
Use the method that the header `Allow` names. The [HTTP reference](../reference/http.md) lists the
methods of each address.
""",
    "RequestTooLargeError": """
Send a smaller body. `detail` names the limit.
""",
    "QueryTooLongError": """
Send a shorter query string. `detail` names the limit. The [HTTP reference](../reference/http.md)
lists the parameters of each address.
""",
    "HeadersTooLargeError": """
Send fewer or shorter headers. `detail` names the limit. A browser that sends many cookies of other
services on `localhost` sends fewer to `127.0.0.1`.
""",
    "ForeignHostError": """
Ask for `localhost` or `127.0.0.1`. If the service has another name, because a proxy stands before
it, its operator lists that name in `LHP_ALLOWED_HOSTS`
([behind a proxy](../guides/access.md#behind-a-proxy)). Without this check, a web page could reach
the service by making its own name mean your machine.
""",
    "ForeignOriginError": """
Ask from a program, or from the service's own `/docs`. Web pages of other sites, and of other ports
of the same machine, may not start measurements, end them, or have races replayed. If such a page is
yours, list its origin in `LHP_ALLOWED_ORIGINS`
([who can reach it](../guides/access.md#who-can-reach-it)).
""",
    "UnauthenticatedError": """
Ask an operator for a token, and set `LHP_TOKEN` to it. Other programs than the commands and the
Python client send it as `Authorization: Bearer lhp_…`. The `detail` says if a token has expired or
was revoked. Operators make tokens with `lhp tokens create`, and the first one with
`lhp tokens bootstrap` ([who can reach it](../guides/access.md#who-can-reach-it)).
""",
    "InsufficientScopeError": """
Ask an operator for a token with the scope that the `detail` names. A token with `read` gets only
answers that are stored: what must be measured needs `measure`. Tokens, hosts and the audit trail
need `admin`.
""",
    "OverloadedError": """
Wait, and ask again after `Retry-After` seconds. Close connections that you don't use. An operator
can raise `LHP_MAX_CONNECTIONS` ([settings](../reference/settings.md)).
""",
    "RequestTimeoutError": """
Send the request again, at once and as a whole. If a proxy stands before the service, let it read
the whole request before it forwards it.
""",
    "UnknownAddressError": """
Check the path: the [HTTP reference](../reference/http.md) lists every address. If a proxy stands
before the service, check that it forwards the path as the service expects it.
""",
    "ReplayError": """
The sweep was begun by another version of this software, whose plan differs. Let that version finish
it, or cancel it with `lhp cancel` and ask again: the new version then measures it from the start.
""",
    "SweepCancelledError": """
Somebody has cancelled the sweep. Ask again if you still need the answer: that starts a new one.
What the cancelled sweep had measured is kept.
""",
    "ShuttingDownError": """
Wait some seconds and ask again. Sweeps that are under way continue when the service, or rather its
worker, is back.
""",
    "ServiceDefectError": """
Please report it, with the request and the lines of the service's log at that time. Asking again
rarely helps.
""",
    "MeasurementFailedError": """
The measurement failed. `detail` says how. Look into the worker's log. The same question, asked
again, starts a new measurement.
""",
    "MeasurementChildDiedError": """
The process that measures has died. Only the point that it was measuring is lost, and the worker
starts the process again. If this happens often, look into the worker's log: the usual reason is
that the machine ran out of memory. Smaller dims, or a smaller batch, need less.
""",
    "DeviceLostError": """
The GPU can't be opened any more. The sweep is paused, and continues when the device is back. Check
the device with `nvidia-smi`; a machine that lost one may have to be started again.
""",
    "MeasurementInterruptedError": """
Somebody has cancelled the sweep, or the worker was told to stop. Batches committed before are kept.
Ask again to measure the rest.
""",
    "ModelError": """
This problem is raised by `lhp advise`, before anything is sent. Check that `MODULE:FACTORY` names a
function that returns a torch module, and that `--example` returns an input that it accepts
([advise a model](../guides/advise.md)).
""",
    "WorkerAlreadyRunningError": """
One worker measures on a device: two would measure each other's noise. The message names the process
and its host's name. Stop it first. `lhp serve` starts a worker of its own unless it is given
`--no-worker`, and that one waits until the other ends.
""",
    "HostTakenError": """
Another process measures under the same name, most likely on another machine: a clone, or a machine
that has the name by chance. The message names the process and the machine. Give one of the two
machines another name with `LHP_HOST`. If the other process has died, its place is free 15 seconds
after it was last heard of. A host that joined with a key belongs to the machine that joined: give
another machine a key of its own with `lhp hosts add`.
""",
    "JoinKeyRefusedError": """
A join key lets one machine in under one name, or several if it is reusable, until it expires. The
message says whether it was used, by which host and when, was revoked, has expired, or is of another
installation. Make a new one with `lhp hosts add`.
""",
    "HostRefusedError": """
An operator has removed the host, or it is quarantined: its machine isn't fit to measure, or its
platform has changed since it was approved. `lhp hosts --all` says which. The worker ends with exit
code 78. `lhp hosts approve` lets the host measure again, as it is now.
""",
}
