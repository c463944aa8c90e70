"""Log lines on stderr: text for people, or one JSON object a line for programs.

Code logs with the standard library's `logging`. Only the form of the lines is chosen here.
"""

from __future__ import annotations

import logging
from typing import Literal

import structlog
from structlog.typing import EventDict, WrappedLogger

from profiler_service.telemetry.log_context import current_log_context

LogFormat = Literal["text", "json"]

TEXT_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure_logging(log_format: LogFormat) -> None:
    """Sends logs to stderr, one line each: ours from level info, the libraries' from warning.

    A process that has handlers already keeps them.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(
        create_json_formatter() if log_format == "json" else logging.Formatter(TEXT_FORMAT)
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("profiler_service").setLevel(logging.INFO)


def create_json_formatter() -> logging.Formatter:
    """Makes one JSON object of a log line.

    It has `timestamp` (UTC, RFC 3339), `level`, `logger`, `event` (the text), `exception` if there
    is one, and what the log context has: `request_id`, `sweep`.
    """
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_context,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    )


def _add_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event.update(current_log_context())
    return event
