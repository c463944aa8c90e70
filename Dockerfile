# Two images from one file: `--target api` answers and has no torch, `--target worker` measures.
FROM python:3.11-slim-bookworm AS source
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY profiler_service profiler_service
COPY trainer_client trainer_client
COPY migrations migrations
RUN python -m venv /opt/lhp

FROM source AS api-files
RUN /opt/lhp/bin/pip install -c constraints.txt '.[server,otel]'

FROM source AS worker-files
# The CPU build of torch. For a GPU: --build-arg TORCH_INDEX=https://pypi.org/simple
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN /opt/lhp/bin/pip install '.[server,measure,plot,gpu,otel]' -c constraints.txt \
    --extra-index-url "$TORCH_INDEX"

FROM python:3.11-slim-bookworm AS base
# tini ends and reaps what a process leaves behind, and hands on signals.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home lhp
ENV PATH=/opt/lhp/bin:$PATH PYTHONUNBUFFERED=1 LHP_LOG_FORMAT=json
USER 10001
# A volume that is mounted here belongs to this user, too.
RUN mkdir --parents /home/lhp/.local/share/lhp
ENTRYPOINT ["tini", "--"]

FROM base AS worker
COPY --from=worker-files /opt/lhp /opt/lhp
# While a worker holds its device, the kernel lists its lock. Asking costs what is measured nothing.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["grep", "--quiet", "@lhp-measuring/", "/proc/net/unix"]
CMD ["lhp", "worker"]

# The last one, so that a build without --target makes it.
FROM base AS api
COPY --from=api-files /opt/lhp /opt/lhp
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["lhp", "serve", "--no-worker"]
