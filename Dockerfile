# syntax=docker/dockerfile:1

# For a build that can be repeated, pin the digest: --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:<digest>
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ARG UV_VERSION=0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir "uv==${UV_VERSION}"
WORKDIR /app
# Dependencies first: they change less often than the code.
COPY pyproject.toml uv.lock ./

FROM build AS build-server
RUN uv sync --locked --no-default-groups --extra server --extra postgres --no-install-project
COPY README.md LICENSE ./
COPY server server
COPY operator operator
RUN uv sync --locked --no-default-groups --extra server --extra postgres --no-editable

FROM build AS build-operator
RUN uv sync --locked --no-default-groups --extra operator --no-install-project
COPY README.md LICENSE ./
COPY server server
COPY operator operator
RUN uv sync --locked --no-default-groups --extra operator --no-editable

FROM ${PYTHON_IMAGE} AS server
COPY --from=build-server /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
EXPOSE 10002 10003
ENTRYPOINT ["queuelet", "server"]

FROM ${PYTHON_IMAGE} AS operator
COPY --from=build-operator /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 10004
ENTRYPOINT ["queuelet-operator"]
