"""MkDocs hooks: add the generated pages, and refuse a site that needs the network to be read."""

from __future__ import annotations

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # where `mkdocs` is run as a script
    sys.path.insert(0, str(ROOT))

from profiler_service.errors import error_classes  # noqa: E402
from reference_pages import PAGES  # noqa: E402
from reference_pages.offline import (  # noqa: E402
    external_addresses,
    external_addresses_in_style,
)

REDIRECT = """<!doctype html>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url=../{name}.html">
<title>{name}</title>
<a href="../{name}.html">{name}</a>
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are generated from the code."""
    for path, render in PAGES.items():
        files.append(File.generated(config, path, content=render()))
    return files


def on_post_build(config: MkDocsConfig) -> None:
    """Makes `/problems/NAME` an address of the site; raises PluginError for external resources."""
    site = Path(config.site_dir)
    for name in (each.problem_name() for each in error_classes()):
        directory = site / "problems" / name
        directory.mkdir(exist_ok=True)
        (directory / "index.html").write_text(REDIRECT.format(name=name), encoding="utf-8")
    found = [
        f"{path.relative_to(site)}: {address}"
        for path in sorted(site.rglob("*"))
        if path.suffix in (".html", ".css")
        for address in (
            external_addresses(path.read_text(encoding="utf-8"))
            if path.suffix == ".html"
            else external_addresses_in_style(path.read_text(encoding="utf-8"))
        )
    ]
    if found:
        raise PluginError("the site would load from the network:\n" + "\n".join(found))
