#!/usr/bin/env bash
# Install nginx and HAProxy on a machine with apt, for the tests of the proxies in deploy/proxy. On other machines,
# print what to install.
set -euo pipefail
packages=""
for one in nginx haproxy; do
  command -v "$one" >/dev/null || [ -x "/usr/sbin/$one" ] || packages="$packages ${one/%nginx/nginx-light}"
done
[ -n "$packages" ] || exit 0
if ! command -v apt-get >/dev/null; then
  echo "The tests of the proxies need nginx 1.18 and HAProxy 2.4 or newer. Install them so that 'nginx' and 'haproxy' are on the PATH." >&2
  exit 1
fi
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo"
echo "Installing from Debian, for the tests of the proxies:$packages"
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
