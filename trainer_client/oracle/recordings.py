"""Answers on disk: one file for each answer, in one folder for each platform.

    DIRECTORY/<platform>/<digest of workload and question>.json

Each file holds the question, the service's answer, the address of the service, the host asked for,
and the time. An answer from a file is checked like an answer from the service. Knows no HTTP.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from profiler_service.errors import LhpError, NotFoundError
from profiler_service.kinds import get_workload_kind
from profiler_service.wire import LhpAnswer
from trainer_client.files import make_directory, write_whole
from trainer_client.oracle.answers import (
    Effort,
    LatencyAnswer,
    LatencyQuestion,
    Prefer,
    Source,
    check_answer,
)


class RecordingError(LhpError):
    """A file doesn't contain the answer that it should."""


class NoRecordedAnswerError(NotFoundError):
    """The question isn't among those recorded."""


class RecordedAnswer(BaseModel):
    """The content of one file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["lhp-answer-1"] = "lhp-answer-1"
    question: str
    """`LatencyQuestion.text`."""
    service: str
    """URL of the service that answered."""
    host: str | None
    """The host asked for; None for the service's own."""
    received_at: AwareDatetime
    answer: LhpAnswer

    @classmethod
    def read(cls, path: Path) -> Self:
        """The content of the file. Raises RecordingError, which names the file."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise RecordingError(
                f"{path} can't be read: {error.strerror}",
                hint="give a file or directory that HttpLatencyOracle(cache=…) has written",
            ) from error
        except ValidationError as error:
            raise RecordingError(
                f"{path} holds no recorded answer: {error.errors()[0]['msg']}",
                hint="remove it, and ask the service again",
            ) from error

    def check(
        self, question: LatencyQuestion, *, platform: str | None, host: str | None, source: Source
    ) -> LatencyAnswer:
        """The checked answer. Raises as `check_answer` does."""
        return check_answer(
            self.answer,
            question,
            platform=platform,
            host=host,
            source=source,
            received_at=self.received_at,
        )


class AnswerDirectory:
    """Answers by platform and question. Keeps only the newest answer to each.

    Several processes may share it: a file is always written as a whole.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def keep(self, question: LatencyQuestion, recorded: RecordedAnswer) -> None:
        """Writes the answer to disk. Raises FileError."""
        platform = quote(recorded.answer.platform, safe="").replace(".", "%2E")
        target = self.path / platform / _file_name(question)
        make_directory(target.parent)
        write_whole(target, (recorded.model_dump_json(indent=1) + "\n").encode())

    def find(self, question: LatencyQuestion) -> list[RecordedAnswer]:
        """The answers to the question, one for each platform. Raises RecordingError."""
        found = map(RecordedAnswer.read, sorted(self.path.glob(f"*/{_file_name(question)}")))
        return [each for each in found if each.question == question.text]

    def list_about(self, workload: str) -> list[RecordedAnswer]:
        """The answers about the workload with that key. Raises RecordingError."""
        found = map(RecordedAnswer.read, sorted(self.path.glob("*/*.json")))
        return [each for each in found if each.answer.workload == workload]


def _file_name(question: LatencyQuestion) -> str:
    return hashlib.sha256(question.text.encode()).hexdigest()[:32] + ".json"


class RecordedLatencyOracle:
    """Replays the answers in a file or a directory that `HttpLatencyOracle(cache=…)` wrote.

    Needs no service and no network. Answers only questions that equal a recorded one.
    """

    def __init__(self, path: str | os.PathLike[str], *, platform: str | None = None) -> None:
        """Reads all answers now. Raises RecordingError if there is none."""
        self._platform = platform
        self._path = Path(path)
        files = sorted(self._path.glob("**/*.json")) if self._path.is_dir() else [self._path]
        if not files:
            raise RecordingError(
                f"there is no recorded answer in {self._path}",
                hint="record some with HttpLatencyOracle(url, cache=DIRECTORY)",
            )
        self._recorded = [RecordedAnswer.read(file) for file in files]

    def check(
        self, dims: Sequence[int], *, workload: str, params: Mapping[str, int | str] | None = None
    ) -> None:
        """Returns if there are recorded answers about this workload. Raises NoRecordedAnswerError.

        Whether the question that will be asked is among them, nobody knows yet.
        """
        described = get_workload_kind(workload).describe(params)
        described.check_dims(dims)
        if not any(each.answer.workload == described.key for each in self._recorded):
            raise NoRecordedAnswerError(
                f"{self._path} has no answer about {described.key}",
                hint="record some with HttpLatencyOracle(url, cache=DIRECTORY)",
            )

    def query(
        self,
        dims: Sequence[int],
        *,
        workload: str = "linear",
        params: Mapping[str, int | str] | None = None,
        prefer: Prefer = "fastest",
        effort: Effort = "quick",
        max_growth: float = 0.125,
        multiple_of: int | Sequence[int] | None = None,
        slack: float = 0.0,
    ) -> LatencyAnswer:
        """The recorded answer, with `source` "recording".

        Raises NoRecordedAnswerError; RecordingError if several platforms answered and none is
        pinned; and as `check_answer` does.
        """
        question = LatencyQuestion.of(
            dims,
            workload=workload,
            params=params,
            prefer=prefer,
            effort=effort,
            max_growth=max_growth,
            multiple_of=multiple_of,
            slack=slack,
        )
        found = [each for each in self._recorded if each.question == question.text]
        if self._platform is not None:
            found = [each for each in found if each.answer.platform == self._platform]
        if not found:
            others = sorted({each.question for each in self._recorded})
            raise NoRecordedAnswerError(
                f"{self._path} has no answer to {question.text!r}"
                + (f" from platform {self._platform!r}" if self._platform else ""),
                hint=f"it answers {len(others)} questions: {'; '.join(others[:3])}"
                + ("; …" if len(others) > 3 else ""),
            )
        platforms = sorted({each.answer.platform for each in found})
        if len(platforms) > 1:
            raise RecordingError(
                f"{self._path} has answers from several platforms: {', '.join(platforms)}",
                hint="choose one: RecordedLatencyOracle(path, platform=…)",
            )
        newest = max(found, key=lambda each: each.received_at)
        return newest.check(question, platform=self._platform, host=None, source="recording")
