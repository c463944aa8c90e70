"""The client's methods about predictions, which measure nothing."""

from __future__ import annotations

from typing import Any, cast

import httpx

from profiler_service.client.operation import operation
from profiler_service.client.problems import parse
from profiler_service.client.transport import Call, Query
from profiler_service.errors import InvalidRequestError
from profiler_service.wire import AnyAnswer, LhpAnswer, PredictedAnswer, PredictedCurve


class PredictionOperations:
    """Part of `service.Service`."""

    async def _request(self, call: Call) -> httpx.Response:
        """The response to the call, tried again where that may help."""
        raise NotImplementedError

    def _add_place(self, query: Query) -> Query:
        """The query, with the client's own host or platform if it names no place."""
        raise NotImplementedError

    @operation
    async def predict_lhp(self, query: Query) -> PredictedAnswer:
        """What the host's model predicts for the query parameters of `GET /lhp`, within a moment.

        It is for programs that can't wait. Its `lhp` is larger than `dims` only if the prediction
        is believed, or if the query says `unproven=move`.
        """
        given = {**self._add_place(query), "basis": "predicted"}
        return parse(PredictedAnswer, await self._request(Call(path="/lhp", params=given)))

    @operation
    async def find_lhp(self, query: Query) -> LhpAnswer | PredictedAnswer:
        """The measured answer if it is known; else what is predicted, while the race is queued.

        Both come within a moment. Ask again when the prediction's `sweep` has ended.
        """
        given = {**self._add_place(query), "basis": "any"}
        response = await self._request(Call(path="/lhp", params=given))
        return parse(cast("type[LhpAnswer | PredictedAnswer]", AnyAnswer), response)

    @operation
    async def predict_curve(self, query: Query) -> PredictedCurve:
        """The predicted landscape, from the query parameters of `GET /curves/predicted`."""
        given: dict[str, Any] = {**self._add_place(query), "format": "json"}
        call = Call(path="/curves/predicted", params=given)
        return parse(PredictedCurve, await self._request(call))


def refuse_basis(query: Query) -> None:
    """Returns if the query asks for a measured answer. Raises InvalidRequestError otherwise."""
    basis = query.get("basis", "measured")
    if basis != "measured":
        method = "predict_lhp" if basis == "predicted" else "find_lhp"
        raise InvalidRequestError(
            f"ask_lhp gives measured answers, not basis={basis}",
            hint=f"call {method}, which has an answer of its own class",
        )
