#!/usr/bin/env bash
# Install Go, Node and curl for the examples' tests, on a machine with apt. Elsewhere: say what is needed.
set -euo pipefail
packages=""
command -v go >/dev/null || packages="golang-go"
{ command -v node && command -v npm; } >/dev/null || packages="$packages nodejs npm"
command -v curl >/dev/null || packages="$packages curl"
[ -n "$packages" ] || exit 0
if ! command -v apt-get >/dev/null; then
  echo "The examples' tests need Go 1.19, Node 18 and curl 7.76 or newer: install them so that 'go', 'node', 'npm' and 'curl' are on the PATH." >&2
  exit 1
fi
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo"
echo "Go, Node or curl is not on this machine: installing Debian's (tests of examples/)"
$as_root apt-get update -qq
# shellcheck disable=SC2086  (one word a package)
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $packages >/dev/null
