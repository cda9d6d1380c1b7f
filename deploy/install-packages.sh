#!/usr/bin/env bash
# Install programs that tests need on a machine with apt. On other machines, print what to install.
#   deploy/install-packages.sh "the tests of deploy/proxy" nginx=nginx-light haproxy=haproxy
# The first argument says what they are for. Each further one is a command and the Debian package that has it.
set -euo pipefail
purpose=$1
shift
packages="" commands=""
for one in "$@"; do
  command -v "${one%=*}" >/dev/null || [ -x "/usr/sbin/${one%=*}" ] || {
    packages="$packages ${one#*=}"
    commands="$commands ${one%=*}"
  }
done
[ -n "$packages" ] || exit 0
if ! command -v apt-get >/dev/null; then
  echo "Put these programs on the PATH, for $purpose:$commands" >&2
  exit 1
fi
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo"
echo "Installing from Debian, for $purpose:$packages"
# No service is started: the tests start their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
  $as_root chmod +x "$policy"
  trap '$as_root rm -f "$policy"' EXIT
fi
$as_root apt-get update -qq
# shellcheck disable=SC2086  (one word per package)
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $packages >/dev/null
