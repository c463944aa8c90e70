"""The page of what makes a platform, from `PlatformInfo` and the table of variables."""

from __future__ import annotations

from profiler_service.measurement.kernel_variables import KERNEL_VARIABLES
from profiler_service.wire import PlatformInfo
from reference_pages.markdown import code, table

INTRODUCTION = """\
---
hide:
  - toc
---

# What makes a platform

Two latencies can be compared only if everything on this page is the same for both. The platform's
key is a digest of all of it. If something changes on a host, the host has another platform from
then on. Its earlier curves stay, are marked stale, and answer only if a question asks for their
platform. [Decision 8](../decisions/0008-what-belongs-to-a-platform.md) says why these things belong
to it.

"""

FLAGS = """\
`flags` holds, by name: the instruction sets of the processor and of torch's kernels, how
measured processors share cores, torch's precision of float32 products, whether denormal numbers
are flushed, the processor's microcode, and the kernel's setting of transparent huge pages. Of a
GPU: its compute capability, how many multiprocessors it has, and whether cuDNN uses TF32.

These are flags only if they aren't at their default: torch's switches (deterministic algorithms,
oneDNN, cuDNN, reduced precision), the kind of cores on a hybrid processor, other sizes of huge
pages, and an allocator that isn't the C library's.

"""


def platform_page() -> str:
    """Every field of a platform, and the environment variables that belong to it."""
    fields = [
        (code(name), field.description or "") for name, field in PlatformInfo.model_fields.items()
    ]
    variables = [(code(rule.names), rule.changes) for rule in KERNEL_VARIABLES]
    return (
        INTRODUCTION
        + "## Fields\n\n"
        + table(("field", "meaning"), fields)
        + FLAGS
        + "## Environment variables\n\n"
        + "Each one that is set is a flag, with its value. Names are regular expressions. Left out"
        " are numbers of threads, directories, and which device measures.\n\n"
        + table(("names", "what they change"), variables)
    )
