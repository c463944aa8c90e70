"""The reference pages of the documentation site, written from the code when the site is built.

Nothing here is committed as text, so nothing here can be out of date. `PAGES` maps the path of
each page, below `docs/`, to the function that returns its Markdown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reference_pages.commands import lhp_page, lhp_train_page
from reference_pages.http import http_page
from reference_pages.latency_model import latency_model_page
from reference_pages.platform import platform_page
from reference_pages.platform_change import platform_change_page
from reference_pages.problems import problem_pages
from reference_pages.python import python_page
from reference_pages.race import race_page
from reference_pages.settings import settings_page
from reference_pages.training import training_page
from reference_pages.turns import turns_page
from reference_pages.workloads import workloads_page

PAGES: Mapping[str, Callable[[], str]] = {
    "reference/http.md": http_page,
    "reference/latency-model.md": latency_model_page,
    "reference/lhp.md": lhp_page,
    "reference/lhp-train.md": lhp_train_page,
    "reference/platform.md": platform_page,
    "reference/platform-changes.md": platform_change_page,
    "reference/python.md": python_page,
    "reference/race.md": race_page,
    "reference/settings.md": settings_page,
    "reference/training.md": training_page,
    "reference/turns.md": turns_page,
    "reference/workloads.md": workloads_page,
    **problem_pages(),
}
