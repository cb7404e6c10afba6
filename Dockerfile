# syntax=docker/dockerfile:1
# One static binary and nothing else:
#
#   docker build --tag trough:0.1.0 .
#
# Pinned are the compiler and the image it comes in by tag, the C library by version, and every crate by Cargo.lock. Where
# policy asks for it, add the digest (`rust:1.95.0-bookworm@sha256:…`).

FROM docker.io/library/rust:1.95.0-bookworm AS build
# A C compiler for musl: SQLite, zstd, ring and the allocator are C.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends musl-tools=1.2.3-1 \
    && rm -rf /var/lib/apt/lists/* \
    && rustup target add "$(uname -m)-unknown-linux-musl" \
    && mkdir /empty
WORKDIR /src

# The dependencies, in a layer that stays as long as no manifest changes: they are built for members without a source.
COPY Cargo.toml Cargo.lock ./
COPY protocol/Cargo.toml protocol/
COPY runtime/Cargo.toml runtime/
COPY bus/Cargo.toml bus/
COPY store/Cargo.toml store/
COPY feeder/Cargo.toml feeder/
COPY eater/Cargo.toml eater/
COPY notifier/Cargo.toml notifier/
COPY clients/device/Cargo.toml clients/device/
COPY bench/Cargo.toml bench/
COPY trough/Cargo.toml trough/
COPY tests/Cargo.toml tests/
COPY deploy/image/hollow.sh deploy/image/
RUN deploy/image/hollow.sh \
    && cargo build --profile image --locked --package trough --target "$(uname -m)-unknown-linux-musl"

COPY . .
# What was hollow was built later than the sources were written.
RUN find . -name target -prune -o -name '*.rs' -exec touch {} + \
    && cargo build --profile image --locked --package trough --target "$(uname -m)-unknown-linux-musl" \
    && cp "target/$(uname -m)-unknown-linux-musl/image/trough" /trough

FROM scratch
COPY --from=build --chmod=0555 /trough /usr/local/bin/trough
# Where `trough up` keeps its data; a volume that is mounted here gets its owner. Services of a cluster write nothing.
COPY --from=build --chown=65532:65532 /empty /data
ENV PATH=/usr/local/bin
WORKDIR /data
USER 65532:65532
# Devices, readers, links, and the admin ports of feeder and eater.
EXPOSE 8080 8081 8082 9080 9081
# Of a feeder; elsewhere TROUGH_HEALTH_URL names the port. It is not a shell that runs this, as there is none.
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s --retries=3 CMD ["trough", "health"]
ENTRYPOINT ["trough"]
CMD ["--help"]
