"""The report of a run as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from trainer_client.report_text import NAMES

if TYPE_CHECKING:
    from trainer_client.report import Report


def draw(report: Report, path: Path) -> None:
    """Writes the picture: perplexity and latency over the number of parameters."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(1, 2 if report.latencies else 1, squeeze=False)[0]
    for row in report.rows:
        name = NAMES[row["step"]]
        axes[0].plot(row["recurrent_parameters"], row["valid_perplexity"], "o", label=name)
    axes[0].set(xscale="log", xlabel="recurrent parameters", ylabel="validation perplexity")
    axes[0].legend(fontsize="small")
    if report.latencies:
        for row in report.rows:
            latency = report.latencies.get(row["step"])
            if latency is not None:
                axes[1].plot(latency.latency_s * 1e3, row["valid_perplexity"], "o")
        axes[1].set(xlabel="latency of the dense network, ms", ylabel="validation perplexity")
    figure.savefig(path, dpi=120)
