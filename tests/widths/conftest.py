"""A service that measures, as a process of its own."""

from __future__ import annotations

from tests.cli.conftest import real_service, start_lhp

__all__ = ["real_service", "start_lhp"]
