#!/bin/sh
# Gets what some tests need and the environment of the tests cannot hold: Chromium with fonts for Japanese
# and emoji, nginx, what stands in for AWS: dynoxide (DynamoDB), s3rver (S3), MiniStack (the whole), and the
# SAM CLI, which builds and deploys there.
#
#   sh tests/install-engines.sh [FOLDER]      FOLDER: where all but Chromium goes (.venv/engines)
#
# Does nothing where they are there. Where it cannot get one it says in one line what to run; then the
# tests that need it skip. With CI set that is a failure instead, of this script and of those tests.
set -u
cd "$(dirname "$0")/.." || exit 1

folder=${1:-.venv/engines}
missing=0
lists_are_fresh=no

has() { command -v "$1" >/dev/null 2>&1; }

tell() {
    echo "tests: $1 is missing, so $2 are not run; get it with: $3" >&2
    missing=1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif has sudo && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

can_install() { has apt-get && as_root true; }

apt() {
    if [ "$lists_are_fresh" = no ]; then
        as_root apt-get -qq update >/dev/null 2>&1
        lists_are_fresh=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 \
        install --yes --no-install-recommends "$@" >/dev/null 2>&1
}

has_chromium() { has chromium || has chromium-browser || has google-chrome; }

has_font() { has fc-list && [ -n "$(fc-list ":lang=$1" family)" ]; }

has_emoji() { has fc-list && fc-list : family | grep -qi emoji; }

has_nginx() { PATH="$PATH:/usr/sbin:$folder/usr/sbin" command -v nginx >/dev/null 2>&1; }

# Only unpacked: an installed nginx would at once serve on port 80 of somebody's machine.
unpack_nginx() {
    has apt-get && has dpkg-deb || return 1
    [ "$lists_are_fresh" = yes ] || as_root apt-get -qq update >/dev/null 2>&1
    mkdir -p "$folder" && (
        cd "$folder" && apt-get -qq download nginx >/dev/null 2>&1 && dpkg-deb -x nginx_*.deb . &&
            rm -f nginx_*.deb && usr/sbin/nginx -v 2>/dev/null
    )
}

has_npm_engines() { cmp -s tests/engines/package-lock.json "$folder/package-lock.json"; }

get_npm_engines() {
    has npm && mkdir -p "$folder" && cp tests/engines/package.json tests/engines/package-lock.json "$folder" || return 1
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --silent >/dev/null 2>&1 && return
    rm -f "$folder/package-lock.json" # so that the next time it is not taken for whole
    return 1
}

has_dynoxide() { [ -x "$folder/node_modules/@dynoxide/linux-x64/dynoxide" ]; }

# Each in an environment of its own: they pin another botocore than ours.
has_environment() { cmp -s "tests/engines/requirements-$1.txt" "$folder/$1/installed.txt"; }

get_environment() {
    python=$folder/../bin/python
    [ -x "$python" ] || python=python3
    rm -rf "${folder:?}/$1"
    "$python" -m venv "$folder/$1" >/dev/null 2>&1 &&
        "$folder/$1/bin/python" -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps \
            -r "tests/engines/requirements-$1.txt" >/dev/null 2>&1 &&
        cp "tests/engines/requirements-$1.txt" "$folder/$1/installed.txt"
}

has_node() { has node && node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)'; }

if ! has_chromium; then
    can_install && echo "tests: installing Chromium with apt" >&2 && apt chromium
    has_chromium || tell Chromium "the browser tests" "apt-get install chromium"
fi
if has_chromium && ! { has_font ja && has_emoji; }; then
    { can_install && apt fontconfig fonts-noto-cjk fonts-noto-color-emoji; } ||
        echo "tests: no font for Japanese or emoji; screenshots will show boxes" >&2
fi
has_nginx || { unpack_nginx && has_nginx; } ||
    tell nginx "the reverse proxy tests" "apt-get install nginx-light"
has_node ||
    tell "Node.js 20 or newer" "the tests of the browser client" "apt-get install nodejs (Debian 13), or nodejs.org"
has_npm_engines || get_npm_engines ||
    tell "npm or one of its packages" "the tests on DynamoDB and S3" "apt-get install npm, and this script again"
! has_npm_engines || has_dynoxide ||
    tell dynoxide "the tests on it" "a machine with Linux on x86-64"
has_environment ministack || get_environment ministack ||
    tell MiniStack "the tests of the whole on AWS" "this script again, with Python's venv and a package index"
has_environment sam || get_environment sam ||
    tell "the SAM CLI" "the tests of the template" "this script again, with Python's venv and a package index"

[ -z "${CI:-}" ] || [ "$missing" = 0 ]
