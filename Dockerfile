# A tag can be moved to another image; a digest cannot. Release builds name it:
#   docker build --build-arg PYTHON_DIGEST=sha256:... --build-arg REVISION="$(git rev-parse HEAD)" .
ARG PYTHON_IMAGE=python:3.12-slim
ARG PYTHON_DIGEST=

FROM ${PYTHON_IMAGE}${PYTHON_DIGEST:+@${PYTHON_DIGEST}} AS builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# Wheels only: installing runs no foreign build script.
COPY requirements.lock requirements-build.lock ./
RUN python -m venv --without-pip /opt/pkb-gateway \
    && python -m pip --python /opt/pkb-gateway install --require-hashes --only-binary :all: -r requirements.lock \
    && python -m pip install --require-hashes --only-binary :all: -r requirements-build.lock

COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
RUN python -m pip wheel --no-index --no-deps --no-build-isolation --wheel-dir dist . \
    && python -m pip --python /opt/pkb-gateway install --no-index --no-deps dist/*.whl
COPY bench/sbom.py bench/sbom.py
RUN /opt/pkb-gateway/bin/python bench/sbom.py --output /opt/pkb-gateway/sbom.cdx.json

FROM ${PYTHON_IMAGE}${PYTHON_DIGEST:+@${PYTHON_DIGEST}}

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="PKB Partner Appointment Gateway" \
      org.opencontainers.image.description="Lets an appointment partner read, change and cancel hospital appointments in Patients Know Best, exactly as far as a customer granted it." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"

ENV PATH=/opt/pkb-gateway/bin:$PATH \
    PKB_GATEWAY_COMMIT=${REVISION} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

COPY --from=builder /opt/pkb-gateway /opt/pkb-gateway

# pip compiled what it installed; the base image comes without bytecode of Python's own library, and nothing is written
# later: each start would compile it anew.
RUN python -m compileall -q -j 0 -x '/(site-packages|ensurepip|idlelib|lib2to3|pydoc_data|test|tests|tkinter|turtledemo)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

# The only place that is written to: the state file and the audit. The rest of the root can be mounted read-only.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/pkb-gateway
VOLUME ["/var/lib/pkb-gateway"]

USER 10001:10001
WORKDIR /var/lib/pkb-gateway
EXPOSE 8080
STOPSIGNAL SIGTERM

# Not urllib: it would ask the proxy that the environment names for PKB.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9090, timeout=2); c.request('GET', '/health/live'); raise SystemExit(c.getresponse().status != 200)"]

ENTRYPOINT ["pkb-gateway"]
CMD ["serve", "--config", "/etc/pkb-gateway/gateway.toml"]
