#!/usr/bin/env bash
# Install Go, Node, curl, a C compiler and Redis on a machine with apt, for the tests of examples/, clients/ and bench/.
# Arguments (go node curl cc redis) select some of them. On other machines, print what to install.
set -euo pipefail
wanted=" ${*:-go node curl cc redis} "
packages=""
case "$wanted" in *" go "*) command -v go >/dev/null || packages="golang-go" ;; esac
case "$wanted" in *" node "*) { command -v node && command -v npm; } >/dev/null || packages="$packages nodejs npm" ;; esac
case "$wanted" in *" curl "*) command -v curl >/dev/null || packages="$packages curl" ;; esac
case "$wanted" in *" cc "*) command -v cc >/dev/null || packages="$packages gcc libc6-dev" ;; esac
case "$wanted" in *" redis "*) command -v redis-server >/dev/null || packages="$packages redis-server" ;; esac
[ -n "$packages" ] || exit 0
if ! command -v apt-get >/dev/null; then
  echo "The checks and the examples' tests need Go 1.19, Node 18, curl 7.76, Redis 7 or newer, and a C compiler. Install them so that 'go', 'node', 'npm', 'curl', 'redis-server' and 'cc' are on the PATH." >&2
  exit 1
fi
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo"
echo "Installing from Debian, for the checks of clients/ and the tests of examples/ and bench/: $packages"
$as_root apt-get update -qq
# shellcheck disable=SC2086  (one word per package)
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $packages >/dev/null
