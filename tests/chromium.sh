#!/bin/sh
# Make sure that there is a browser for tests/book/test_browser.py.
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null && exit 0
fi
.venv/bin/playwright install chromium && exit 0
echo "No Chromium was found or could be installed; install one to run the browser tests." >&2
exit 1
