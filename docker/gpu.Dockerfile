# A worker of the gpu pool. Built from the repository's root:
#   docker build --file docker/gpu.Dockerfile --tag fewbits-gpu:0.1.0 .
#
# `devel` and not `runtime`, which has no nvcc: GPTQModel compiles its kernels for the GPU that it finds. The version is
# that of the CUDA which torch 2.13.0 was built with; nvcc of another major version is refused by torch. It needs
# NVIDIA's driver 580 or newer on the node. The Python is Ubuntu's, with the headers that Triton compiles against.
FROM nvidia/cuda:13.0.3-devel-ubuntu24.04 AS compiler
# No versions: Ubuntu keeps none but its newest, so a pin would break within weeks.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap g++ python3.12-dev python3.12-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3.12 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir pip==26.3

# llama.cpp, as `make setup` builds it: about 13 minutes of one core, once for each version.
FROM compiler AS llama
WORKDIR /build
COPY setup/llama-cpp.txt setup/build-constraints.txt ./
RUN CMAKE_BUILD_PARALLEL_LEVEL="$(nproc)" /opt/venv/bin/pip wheel --no-cache-dir --no-deps \
    --no-binary=llama-cpp-python --build-constraint=build-constraints.txt --wheel-dir=/wheels \
    --requirement llama-cpp.txt

FROM compiler AS build
WORKDIR /opt/fewbits
COPY --from=llama /wheels /wheels
COPY pyproject.toml constraints.txt docker/cuda-constraints.txt README.md LICENSE NOTICE ./
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt --constraint cuda-constraints.txt \
    /wheels/*.whl ".[gpu]"
COPY . .
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --editable . \
    && /opt/venv/bin/python -m compileall -q .

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
