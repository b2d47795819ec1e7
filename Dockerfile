# One image for the HTTP server, the workers, the node agent and the command line:
#   docker run … modelyard python3 -m api | workers | workers.agent        docker run … modelyard modelyard --help
# Without a registry within reach, deploy/base/images.sh gives a local BASE and puts wheels beside
# requirements.txt.
ARG BASE=python:3.11-slim

FROM ${BASE} AS packages
LABEL modelyard.stage=packages
WORKDIR /build
COPY requirements.txt *.whl ./
# A wheel is a zip file: Python runs the pip in it, for bases that have none.
RUN set -e; \
    pip=$(echo pip-*.whl); \
    if [ -e "$pip" ]; then set -- "$pip/pip" install --no-index --find-links .; \
    else set -- -m pip install; fi; \
    python3 "$@" --quiet --no-cache-dir --disable-pip-version-check --root-user-action ignore \
        --require-hashes --no-deps --only-binary :all: --target /site -r requirements.txt

FROM ${BASE}
LABEL org.opencontainers.image.title="Modelyard" \
      org.opencontainers.image.description="Takes in model container images, proves that they work, and runs them on GPU nodes" \
      org.opencontainers.image.licenses="Apache-2.0"
# The gateway; a base of one's own may have it already.
RUN test -x /usr/sbin/haproxy || { apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends haproxy && rm -rf /var/lib/apt/lists/*; }
COPY --from=packages /site /opt/site
COPY deploy/image/ /usr/local/bin/
COPY modelyard /app/modelyard
COPY schemas /app/schemas
COPY pipeline /app/pipeline
COPY workers /app/workers
COPY api /app/api
COPY cli /app/cli
RUN mkdir -p /var/lib/modelyard/state /var/lib/modelyard/gateway \
    && chown -R 10001:10001 /var/lib/modelyard/state /var/lib/modelyard/gateway \
    && chmod 700 /var/lib/modelyard/gateway \
    && python3 -m compileall -q /app
ENV MALLOC_ARENA_MAX=1 PYTHONPATH=/app:/opt/site PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    MODELYARD_STATE=/var/lib/modelyard/state MODELYARD_API_HOST=0.0.0.0
WORKDIR /var/lib/modelyard/state
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["healthy"]
ENTRYPOINT ["entrypoint.sh"]
CMD ["python3", "-m", "api"]
