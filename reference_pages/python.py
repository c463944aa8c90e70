"""The page of the public Python names, from `profiler_service.__all__` and the trainer's oracle.

MkDocs replaces lines that begin with `:::` by signatures and docstrings (mkdocstrings).
"""

from __future__ import annotations

import inspect

from pydantic import BaseModel

import profiler_service
from profiler_service import client
from profiler_service.errors import LhpError
from reference_pages.markdown import code, table
from trainer_client import oracle

INTRODUCTION = """\
# Python

```python
from profiler_service import ServiceClient

with ServiceClient("http://127.0.0.1:8000") as service:
    answer = service.ask_lhp({"dims": "1197,317"}, wait_s=60)
    answer.lhp  # [1200, 317]
```

These names are public: `from profiler_service import NAME`. The client needs no torch and no numpy.
The names of the trainer's oracle below are public, too. Everything else may change without notice.

## The client

`ServiceClient` blocks. `AsyncServiceClient` has the same methods, to be awaited.

"""
ORACLE = """\
## The oracle of a training job

An oracle asks one question, `query`, and checks the answer before it is used
([guide](../guides/ask.md)). Import these names from `trainer_client.oracle`.

"""


def public_names() -> list[str]:
    """Every public name but the version, in alphabetical order."""
    return sorted(set(profiler_service.__all__) - {"__version__"})


def _described(path: str, option: str = "") -> str:
    options = f"    options:\n      {option}\n" if option else ""
    return f"::: {path}\n{options}\n"


def python_page() -> str:
    """Every public name: classes and functions with their docstrings, models with a link."""
    clients, models, others = "", [], ""
    for name in public_names():
        found = getattr(profiler_service, name)
        path = f"{found.__module__}.{found.__qualname__}"
        if name in client.__all__:
            is_first = found is client.ServiceClient
            described = _described(path, "inherited_members: true" if is_first else "members: []")
            clients = described + clients if is_first else clients + described
        elif inspect.isclass(found) and issubclass(found, BaseModel):
            models.append((f"[`{name}`](http.md#{name.lower()})", (found.__doc__ or "").strip()))
        else:
            others += _described(path)
    text = INTRODUCTION + clients
    text += "## Models\n\nTheir fields are those of the JSON.\n\n"
    text += table(("model", "meaning"), models)
    text += "## Errors\n\nThe service's own errors are raised as the classes listed under"
    text += (
        " [problems](../problems/index.md). The client adds these, in `profiler_service.client`:"
    )
    text += f"\n\n{table(('error', 'meaning'), _client_errors())}"
    text += f"## Other names\n\n{others}"
    text += ORACLE
    for name in oracle.__all__:
        found = getattr(oracle, name)
        text += _described(f"{found.__module__}.{found.__qualname__}", "inherited_members: true")
    return text


def _client_errors() -> list[tuple[str, str]]:
    found = [(name, getattr(client, name)) for name in client.__all__]
    return [
        (code(name), (inspect.getdoc(each) or "").split("\n\n")[0])
        for name, each in found
        if inspect.isclass(each) and issubclass(each, LhpError)
    ]
