# A worker of the cpu pool. Built from the repository's root:
#   docker build --file docker/cpu.Dockerfile --tag fewbits-cpu:0.1.0 .
FROM python:3.11.14-slim-bookworm AS compiler
# No versions: Debian keeps none but its newest, so a pin would break within weeks.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap g++ \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir pip==26.3

# llama.cpp, as `make setup` builds it: about 13 minutes of one core, once for each version.
FROM compiler AS llama
WORKDIR /build
COPY setup/llama-cpp.txt setup/build-constraints.txt ./
RUN CMAKE_BUILD_PARALLEL_LEVEL="$(nproc)" /opt/venv/bin/pip wheel --no-cache-dir --no-deps \
    --no-binary=llama-cpp-python --build-constraint=build-constraints.txt --wheel-dir=/wheels \
    --requirement llama-cpp.txt

FROM compiler AS build
# Where torch is found without CUDA; a mirror of your own where builds do not reach the internet.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
WORKDIR /opt/fewbits
COPY --from=llama /wheels /wheels
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
RUN /opt/venv/bin/pip install --no-cache-dir --extra-index-url "$TORCH_INDEX_URL" --constraint constraints.txt \
    /wheels/*.whl ".[cpu]"
COPY . .
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --editable . \
    && /opt/venv/bin/python -m compileall -q .

# With the compiler: GPTQModel compiles its kernels on the machine that uses them.
FROM compiler
RUN useradd --no-log-init --uid 10001 --user-group --no-create-home --home-dir /tmp fewbits
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/fewbits /opt/fewbits
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/fewbits
USER 10001:10001
ENTRYPOINT ["fewbitsd"]
CMD ["--help"]
