#!/usr/bin/env bash
# Uploads an image for free, or by an upload link, and prints its link:
#
#     ./upload.sh photo.png          free, for a few days
#     ./upload.sh photo.png LINK     by an upload link, which somebody else paid for
#
# PIXTOLL_SERVER is the server of free uploads.
set -euo pipefail

file=$1
link=${2:-}
server=${PIXTOLL_SERVER:-http://127.0.0.1:4020}

if [ -n "$link" ]; then
  # Plain text: the link of the image. On a failure curl prints the server's message and fails.
  curl --silent --show-error --fail-with-body --upload-file "$file" "$link"
else
  # The file is the body; the answer is JSON.
  curl --silent --show-error --fail-with-body --data-binary "@$file" --header "Content-Type: image/unknown" \
    "$server/api/free" | jq --raw-output .url
fi
