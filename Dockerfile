# synthbench in a container. CPU by default; for a GPU name an index of torch's builds for CUDA:
#   docker build -t synthbench .
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 -t synthbench:cuda .
# How to start it: docs/installation.md

FROM python:3.12-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml MANIFEST.in README.md LICENSE NOTICE constraints.txt ./
COPY synthbench ./synthbench
COPY generators ./generators
COPY metrics ./metrics
RUN pip install --no-cache-dir --constraint constraints.txt build setuptools \
    && python -m build --wheel --no-isolation --outdir /wheel

FROM python:3.12-slim-bookworm
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt /tmp/constraints.txt
# First and alone, because this index has other builds of torch than the usual one.
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt --index-url "$TORCH_INDEX" torch
COPY --from=build /wheel /tmp/wheel
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt \
        "$(echo /tmp/wheel/synthbench-*.whl)[prepare,onnx]" \
    && rm -r /tmp/wheel /tmp/constraints.txt \
    && useradd --create-home --uid 1000 synthbench \
    && mkdir -p /cache /data \
    && chown synthbench:synthbench /cache /data \
    && chmod 1777 /cache

# Any user may keep features here (--user), so the folder has no owner's rights.
ENV SYNTHBENCH_CACHE=/cache/features \
    SYNTHBENCH_WEIGHTS=/cache/weights \
    MPLCONFIGDIR=/cache/matplotlib \
    PYTHONUTF8=1
USER 1000:1000
WORKDIR /data
ENTRYPOINT ["synthbench"]
CMD ["--help"]
