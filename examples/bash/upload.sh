#!/usr/bin/env bash
# Uploads an image for free, or by an upload link, and prints its link:
#
#     ./upload.sh photo.png          free, for a few days
#     ./upload.sh photo.png LINK     by an upload link, which somebody else paid for
#
# PIXTOLL_SERVER is the server of free uploads.
set -euo pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: $0 FILE [LINK]" >&2
  exit 2
fi
file=$1
link=${2:-}
server=${PIXTOLL_SERVER:-http://127.0.0.1:4020}

if [ -n "$link" ]; then
  request=(--upload-file "$file" "$link")
else
  request=(--data-binary "@$file" --header "Content-Type: image/unknown" "$server/api/free")
fi
answer=$(curl --silent --show-error --fail-with-body --header "Accept: application/json" "${request[@]}") || {
  # The server's message says what is wrong and what to do.
  jq --raw-output .message <<<"$answer" >&2 || true
  exit 1
}
jq --raw-output .url <<<"$answer"
