# An image for every node of a cluster, for KubeRay and others:
#   docker build -t polyprag:cpu .
#   docker build -t polyprag:gpu --build-arg DEVICE=gpu .
# The GPU's driver is the machine's (NVIDIA's container toolkit); the CUDA libraries come with torch.
# No secret goes in: keys are environment variables of the container that runs.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:${PYTHON}-slim-bookworm
ARG DEVICE=cpu
# g++: for what DeepSpeed compiles when it is first used (ninja comes with it). A user without rights.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 polyprag \
    && install -d -o polyprag /home/polyprag/.cache
COPY --from=build /dist /tmp/dist
COPY constraints-cpu.txt /tmp/
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# faiss-gpu fills the folder of faiss-cpu, so that one goes first (CONTRIBUTING.md).
RUN case "$DEVICE" in \
      cpu) export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu ;; \
      gpu) ;; \
      *) echo "DEVICE=$DEVICE: cpu or gpu" >&2; exit 2 ;; \
    esac \
    && wheel=$(echo /tmp/dist/polyprag-*.whl) \
    && pip install --no-cache-dir -c /tmp/constraints-cpu.txt "${wheel}[s3,gcs]" \
    && if [ "$DEVICE" = gpu ]; then \
         pip uninstall -y faiss-cpu && pip install --no-cache-dir 'faiss-gpu>=1.15'; \
       fi \
    && rm -rf /tmp/dist /tmp/constraints-cpu.txt
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility PYTHONUNBUFFERED=1
USER 1000
WORKDIR /home/polyprag
CMD ["polyprag", "--help"]
