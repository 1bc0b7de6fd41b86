# syntax=docker/dockerfile:1
# The server in a small image of its own. scripts/check-image-build carries these very steps out without Docker,
# and knows these instructions only: FROM, ARG, COPY, RUN, ENV, WORKDIR, USER, VOLUME, EXPOSE, STOPSIGNAL, HEALTHCHECK,
# ENTRYPOINT, CMD.

FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY . .
# The commit that `pixtoll --version` names, since the repository is not copied:
#   docker build --build-arg PIXTOLL_COMMIT="$(git log -1 --date=short --format='%h %cd')" .
ARG PIXTOLL_COMMIT=
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    scripts/build-release /out/pixtoll

# Not distroless: the binary needs glibc and the certificates of the web, and an operator now and then a shell.
FROM debian:bookworm-slim
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 pixtoll \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin pixtoll \
    && install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /out/pixtoll /usr/local/bin/pixtoll

# What lies under ./data by default lies under /data here: database, images, key. Nothing is written elsewhere, so
# that the root may be read-only.
WORKDIR /
VOLUME /data
USER 10001:10001
ENV PIXTOLL_HTTP__LISTEN=0.0.0.0:4020
EXPOSE 4020
STOPSIGNAL SIGTERM
# The admin listener stays on the container's loopback; the binary asks it from inside.
HEALTHCHECK --interval=10s --timeout=8s --start-period=60s --retries=3 CMD ["pixtoll", "health"]
ENTRYPOINT ["pixtoll"]
CMD ["serve"]
