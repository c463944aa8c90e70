# The service with its measuring worker. It runs on the host's network and processors: what is
# measured is the host.
FROM python:3.11-slim
WORKDIR /app
# The CPU build of torch; for a GPU host build with --build-arg TORCH_INDEX=https://pypi.org/simple
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY profiler_service profiler_service
COPY trainer_client trainer_client
COPY migrations migrations
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -c constraints.txt '.[server,measure,plot]'
CMD ["sh", "-c", "lhp db upgrade && exec lhp serve"]
