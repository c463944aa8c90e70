"""What the service says is wrong comes back as the class that it was raised as."""

from __future__ import annotations

import pickle

import pytest

from profiler_service import client, errors
from profiler_service.api.problems import NOT_ON_THE_WIRE
from profiler_service.client import (
    AccessRefusedError,
    ContractError,
    ServiceFailedError,
    ServiceUnavailableError,
)
from tests.cli.stub import Reply
from tests.client.conftest import Make, Stub

CLIENTS_OWN = [
    each
    for name in client.__all__
    if isinstance(each := getattr(client, name), type) and issubclass(each, errors.LhpError)
]
ON_THE_WIRE = sorted(set(errors.error_classes()) - NOT_ON_THE_WIRE, key=lambda each: each.__name__)


@pytest.mark.parametrize("kind", ON_THE_WIRE)
def test_every_error_comes_back_as_the_class_that_it_was(
    make: Make, stub: Stub, kind: type[errors.LhpError]
) -> None:
    stub.reply("GET /hosts", Reply.of_error(kind("it's wrong", hint="do it right", see="/docs")))
    with pytest.raises(errors.LhpError) as raised:
        make().list_hosts()
    assert type(raised.value) is kind
    assert (str(raised.value), raised.value.hint) == ("it's wrong", "do it right")
    assert raised.value.see == "/docs"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequestError),
        (401, AccessRefusedError),
        (403, AccessRefusedError),
        (404, errors.NotFoundError),
        (405, errors.MethodNotAllowedError),
        (409, errors.ConflictError),
        (413, errors.RequestTooLargeError),
        (414, errors.RequestTooLargeError),
        (418, ServiceFailedError),
        (422, errors.InvalidRequestError),
        (429, ServiceUnavailableError),
        (500, ServiceFailedError),
        (503, ServiceUnavailableError),
        (507, ServiceFailedError),
    ],
)
def test_a_problem_of_a_newer_service_is_the_nearest_class(
    make: Make, stub: Stub, status: int, kind: type[errors.LhpError]
) -> None:
    asking = make(attempts=1)
    for type_ in ("/problems/of-the-future", "about:blank", "https://x.example/y"):
        stub.reply("GET /hosts", Reply.problem(status, "no", "don't", type=type_))
        with pytest.raises(errors.LhpError, match="no") as raised:
            asking.list_hosts()
        assert type(raised.value) is kind
        assert raised.value.hint == "don't"


def test_the_type_counts_not_the_status(make: Make, stub: Stub) -> None:
    stub.reply("GET /hosts", Reply.problem(500, "no", "", type="/problems/unknown-curve"))
    with pytest.raises(errors.UnknownCurveError):
        make().list_hosts()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (307, ServiceFailedError),
        (400, ServiceFailedError),
        (401, AccessRefusedError),
        (404, ServiceFailedError),
        (418, ServiceFailedError),
        (500, ServiceFailedError),
        (502, ServiceUnavailableError),
        (504, ServiceUnavailableError),
    ],
)
def test_what_is_no_problem_document_is_of_something_else(
    make: Make, stub: Stub, status: int, kind: type[errors.LhpError]
) -> None:
    asking = make(attempts=1)
    for body in ("<h1>no</h1>", '{"detail": "no"}', ""):
        stub.reply("GET /hosts", Reply(body, status))
        with pytest.raises(errors.LhpError, match=f"{stub.url}/hosts answered {status}") as raised:
            asking.list_hosts()
        assert type(raised.value) is kind
        assert raised.value.hint


def test_an_answer_of_something_else_breaks_the_contract(make: Make, stub: Stub) -> None:
    asking = make()
    for body in ("<h1>Hello</h1>", "[{}]", "{}", "null", ""):
        stub.reply("GET /hosts", Reply(body))
        with pytest.raises(ContractError, match=f"{stub.url}/hosts sent what") as raised:
            asking.list_hosts()
        assert "LHP service" in raised.value.hint


def test_what_is_missing_is_named(make: Make, stub: Stub) -> None:
    stub.reply("GET /lhp", Reply('{"lhp": [1200, 320]}'))
    with pytest.raises(ContractError, match=r"\(dims: Field required\)"):
        make().ask_lhp({"dims": "1197,317"}, wait_s=5)


@pytest.mark.parametrize("kind", [*errors.error_classes(), *CLIENTS_OWN])
def test_errors_travel_between_processes(kind: type[errors.LhpError]) -> None:
    """The ranks of a training job tell each other what the first one was told."""
    error = kind("it's wrong", hint="do it right", see="/docs")
    copied = pickle.loads(pickle.dumps(error))
    assert type(copied) is kind
    assert (str(copied), copied.hint, copied.see) == ("it's wrong", "do it right", "/docs")
