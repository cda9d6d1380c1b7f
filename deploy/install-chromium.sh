#!/usr/bin/env bash
# Install Chromium for the browser tests on a machine with apt. On other machines, print what to install.
set -euo pipefail
if ! command -v apt-get >/dev/null; then
  echo "The browser tests need Chromium. Install it so that 'chromium' or 'google-chrome' is on the PATH." >&2
  exit 1
fi
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo"
echo "Installing Chromium from Debian for the browser tests"
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
