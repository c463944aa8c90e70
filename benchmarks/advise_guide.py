"""Renews the sample of `docs/guides/advise.md`: runs its model, and writes what is printed.

The model is the guide's own code. Asks a fresh service, whose worker is ready.

    python -m benchmarks.advise_guide
"""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.advise import wait_for_worker
from benchmarks.answers.service import fresh_service
from benchmarks.provenance import ROOT, processor

GUIDE = ROOT / "docs/guides/advise.md"
COMMAND = "lhp advise my_models:make_model --example my_models:make_input"
CODE = re.compile(r"```python\n# my_models.py\n(.*?)```", re.DOTALL)
SAMPLE = re.compile(rf"```console\n\$ {re.escape(COMMAND)}\n.*?```\n\n.*?\n\n", re.DOTALL)


def main() -> int:
    """0, and the guide is renewed."""
    text = GUIDE.read_text()
    printed = run(find_code(text))
    GUIDE.write_text(renew(text, printed, find_origin()))
    print(printed)
    return 0


def find_code(text: str) -> str:
    """The code of `my_models.py` in the guide's text."""
    found = CODE.search(text)
    assert found is not None, "the guide has no my_models.py"
    return found[1]


def run(code: str) -> str:
    """What the command prints on stdout for the model."""
    lhp = Path(sys.executable).with_name("lhp")
    with tempfile.TemporaryDirectory() as folder, fresh_service(lhp) as (url, _):
        (Path(folder) / "my_models.py").write_text(code)
        wait_for_worker(url)
        done = subprocess.run(
            [lhp, *COMMAND.split()[1:], "--url", url],
            cwd=folder,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return done.stdout


def find_origin() -> str:
    """Where and when the sample was measured."""
    return (
        f"This output is from an {processor()} with {os.cpu_count()} processors,"
        f" {dt.datetime.now(dt.UTC):%Y-%m-%d}."
    )


def renew(text: str, printed: str, origin: str) -> str:
    """The guide's text with this sample."""
    lines = "\n".join(line.rstrip() for line in printed.splitlines())
    sample = f"```console\n$ {COMMAND}\n{lines}\n```\n\n{origin}\n\n"
    renewed, count = SAMPLE.subn(lambda _: sample, text)
    assert count == 1, "the guide has no sample, or several"
    return renewed


if __name__ == "__main__":
    sys.exit(main())
