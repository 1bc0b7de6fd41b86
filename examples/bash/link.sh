#!/usr/bin/env bash
# Makes an upload link of the free tier, and prints it. Whoever has the link uploads with it, by curl -T photo.png LINK:
#
#     ./link.sh [images] [days]
#
# PIXTOLL_SERVER is the server. A link of a paid tier is bought by ../typescript, ../python, ../rust or pixtoll link create.
set -euo pipefail

server=${PIXTOLL_SERVER:-http://127.0.0.1:4020}
answer=$(curl --silent --show-error --fail-with-body --request POST \
  "$server/api/links?images=${1:-3}&days=${2:-7}&tier=free") || {
  # The server's message says what is wrong and what to do.
  jq --raw-output .message <<<"$answer" >&2 || true
  exit 1
}
jq --raw-output .url <<<"$answer"
