# The API and what needs no tensors: api, dispatch, rescue, migrate, keys. Built from the repository's root:
#   docker build --file docker/api.Dockerfile --tag fewbits-api:0.1.0 .
FROM python:3.11.14-slim-bookworm AS build
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir pip==26.3
WORKDIR /opt/fewbits
# What fewbits depends on, without fewbits: a layer that its changes leave as it is.
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt ".[api]"
COPY . .
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --editable . \
    && /opt/venv/bin/python -m compileall -q .

FROM python:3.11.14-slim-bookworm
RUN useradd --no-log-init --uid 10001 --user-group --no-create-home --home-dir /tmp fewbits
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/fewbits /opt/fewbits
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/fewbits
USER 10001:10001
ENTRYPOINT ["fewbitsd"]
CMD ["--help"]
