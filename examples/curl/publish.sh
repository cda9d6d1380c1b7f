#!/bin/sh
# Publish one event to Beaconfire with curl: over HTTP, for whatever speaks no NATS.
#
#   BEACONFIRE_SERVICE_TOKEN=… ./publish.sh CAMPAIGN SETTLEMENT FIELD…
#
# Ends with 0 when the publisher has the event, with 1 and a sentence on standard error when it does not.
set -eu
LC_ALL=C # of a range like a-z: those letters, in every language

publisher=${BEACONFIRE_PUBLISHER_URL:-http://127.0.0.1:8082}
give_up_after_s=${GIVE_UP_AFTER_S:-30} # the last attempt begins no later
attempt_s=5                            # until one attempt counts as lost

fail() {
  printf 'publish: %s\n' "$1" >&2
  exit 1
}

# Letters that need no escaping, in JSON or in curl's configuration.
check() {
  case $2 in
    '' | *[!A-Za-z0-9_.-]*) fail "$1 has letters, digits, and . _ - only" ;;
  esac
}

# A text of the answer by its name. Enough for our answers, which are flat; elsewhere use jq.
text() {
  sed -nE 's/.*"'"$1"'": *"(([^"\\]|\\.)*)".*/\1/p' "$answer"
}

[ $# -ge 3 ] || fail 'usage: publish.sh CAMPAIGN SETTLEMENT FIELD…'
check BEACONFIRE_SERVICE_TOKEN "${BEACONFIRE_SERVICE_TOKEN:-}"
for word in "$@"; do check "\"$word\"" "$word"; done
campaign=$1 settlement=$2
shift 2
fields=$(printf ',"%s"' "$@")

# The subject follows from type and payload; time, source and the rest of the metadata from the request.
event='{
  "type": "settlement_updated",
  "version": 1,
  "payload": {
    "campaignId": "'$campaign'",
    "settlementId": "'$settlement'",
    "operation": "update",
    "changedFields": ['${fields#,}']
  }
}'
# Made once, and the same for each attempt: under one key the publisher publishes an event once, for 8 days. A service
# that may crash in between stores it along with its change.
key=${IDEMPOTENCY_KEY:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
# curl tries again where nobody answers and after 408, 429 and 5xx, as late as Retry-After says. The token comes on its
# standard input: everybody on the machine can read a command line.
status=$(
  printf 'header = "Authorization: Bearer %s"\n' "$BEACONFIRE_SERVICE_TOKEN" |
    curl --config - --silent --output "$answer" --write-out '%{http_code}' \
      --max-time "$attempt_s" --retry 100 --retry-connrefused --retry-max-time "$give_up_after_s" \
      --header 'Content-Type: application/json' --header "Idempotency-Key: $key" \
      --data "$event" "$publisher/v1/events"
) || fail "no answer from $publisher within $give_up_after_s s; the event may be published all the same"

case $status in
  200 | 201) ;;
  *) fail "the publisher refused the event: $status $(text message)" ;;
esac
offset=$(text offset)
# Without an offset the publisher has the event and the broker has not yet: nothing is left to do here.
echo "published, offset ${offset:-pending}"
