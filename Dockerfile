# The suite with its environment, on Debian's Python 3.11. The build needs a network; what runs in the image needs none.
#
#   docker build -t layerprune --build-arg COMMIT=$(git rev-parse HEAD) .
#   docker run --rm --network none layerprune                              make reproduce: all of preset quick
#   docker run --rm --network none layerprune layerprune --help            any other command
#
# One image for CPUs and for NVIDIA GPUs (docker run --gpus all): the lock's torch brings CUDA along, hence 6 GB. For a
# smaller image or another CUDA name an index that has such builds of torch: --build-arg TORCH_INDEX=URL.

ARG BASE=docker.io/library/debian:bookworm-slim@sha256:7b140f374b289a7c2befc338f42ebe6441b7ea838a042bbd5acbfca6ec875818
FROM ${BASE}

RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

# The environment before the code: a change of the code alone leaves this layer as it is.
WORKDIR /layerprune
COPY Makefile pyproject.toml requirements.lock requirements-bootstrap.lock README.md LICENSE ./
COPY src/layerprune/__init__.py src/layerprune/
ARG TORCH_INDEX=
RUN make install TORCH_INDEX="$TORCH_INDEX" && rm -rf ~/.cache
COPY . .

# Records say which commit made them; the image has no git.
ARG COMMIT=
RUN touch .venv/.installed && if [ -n "$COMMIT" ]; then echo "$COMMIT" > .commit; fi

ENV PATH=/layerprune/.venv/bin:$PATH
CMD ["make", "reproduce"]
