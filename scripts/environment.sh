#!/bin/sh
# Makes .venv what it should be, and says nothing when it already is.
#
#   scripts/environment.sh runtime    what `payday` needs to run
#   scripts/environment.sh dev        the tests and the developers' tools as well
#
# It needs a Python >= 3.11 (set PYTHON to prefer one) and a way to get pip into a new environment.
#
# Invariant: the stamp in .venv is written last and removed first. It holds the level, the checksum of what the
# installation was made from, the place and the interpreter's version; so an environment without a stamp is
# half-made, and one whose stamp does not fit this place and interpreter has been moved or has lost its Python.
# Both are made anew: .venv is disposable. One that merely lacks packages is completed.
set -eu

level=${1:-}
case $level in
runtime) requirement=. ;;
dev) requirement='.[dev]' ;;
*)
    echo "usage: scripts/environment.sh runtime|dev" >&2
    exit 2
    ;;
esac

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root"
venv=.venv
python=$venv/bin/python
stamp=$venv/.payday-stamp
oldest='(3, 11)'

say() { echo "$*" >&2; } # standard output belongs to the command that follows

checksum() { cat pyproject.toml constraints.txt scripts/environment.sh | cksum; }

# What the stamp ends with: place and interpreter. The interpreter itself is asked, so a lost one fails here.
identity() {
    printf '%s\n' "$root"
    "$python" -I -S -c 'import sys; print(sys.version)' 2>/dev/null
}
stamped_level() { sed -n '1p' "$stamp"; }

is_sound() { # made here, finished, by an interpreter that still runs
    [ -f "$stamp" ] && [ -x "$venv/bin/payday" ] && here=$(identity) && [ "$here" = "$(sed -n '3,$p' "$stamp")" ]
}
is_ready() { # sound, from these very files, and with at least this level
    is_sound && [ "$(sed -n '2p' "$stamp")" = "$(checksum)" ] &&
        { [ "$(stamped_level)" = dev ] || [ "$(stamped_level)" = "$level" ]; }
}

# A name on the path is only a candidate: a pyenv shim may exist and fail, a python3 may be too old.
is_recent_python() {
    "$1" -I -S -c "import sys; sys.exit(sys.version_info < $oldest)" >/dev/null 2>&1
}
candidates() {
    [ -z "${PYTHON:-}" ] || command -v "$PYTHON" || true
    for name in python3.11 python3.12 python3.13 python3; do
        old_ifs=$IFS
        IFS=:
        for directory in $PATH; do
            [ ! -x "${directory:-.}/$name" ] || echo "${directory:-.}/$name"
        done
        IFS=$old_ifs
    done
}

has_pip() { "$python" -m pip --version >/dev/null 2>&1; }

# Each way leaves a .venv with pip in it, or fails. $1 is a Python that runs.
with_ensurepip() { "$1" -m venv "$venv" && has_pip; }
with_outside_pip() { # for a Python that was packaged without ensurepip
    "$1" -m venv --without-pip "$venv" || return 1
    "$1" -m pip --python "$python" install pip || python3 -m pip --python "$python" install pip ||
        pip3 --python "$python" install pip || pip --python "$python" install pip || return 1
    has_pip
}
with_virtualenv() {
    { "$1" -m virtualenv "$venv" || virtualenv --python "$1" "$venv"; } && has_pip
}
with_uv() { uv venv --seed --python "$1" "$venv" && has_pip; }

create() { # $1: a Python that runs
    for way in with_ensurepip with_outside_pip with_virtualenv with_uv; do
        rm -rf "$venv"
        echo "== $1: $way" >>"$log"
        if "$way" "$1" >>"$log" 2>&1; then return 0; fi
    done
    rm -rf "$venv"
    return 1
}

create_with_any_python() {
    found=
    candidates >"$list"
    while IFS= read -r candidate; do
        is_recent_python "$candidate" || continue
        found=$candidate
        if create "$candidate" </dev/null; then return 0; fi
    done <"$list"
    if [ -z "$found" ]; then
        say "Payday needs Python 3.11 or newer, and none was found on the PATH (nor in the variable PYTHON)."
        say "Install one, with its venv module (on Debian and Ubuntu: apt-get install python3 python3-venv)."
    else
        cat "$log" >&2
        say "$found runs but cannot make a virtual environment with pip in it."
        say "Install its venv module (on Debian and Ubuntu: apt-get install python3-venv), or virtualenv, or uv."
    fi
    return 1
}

install() {
    "$python" -m pip install --constraint constraints.txt --editable "$requirement" >>"$log" 2>&1
}

if is_ready; then exit 0; fi

# Two makes at once: the second waits and then finds the work done. The lock goes with the process that holds it.
exec 9<constraints.txt
if command -v flock >/dev/null 2>&1; then
    flock 9
    if is_ready; then exit 0; fi
fi

# What a user's pip is set to do elsewhere (installing for the user, asking questions) must not happen in here.
export PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_REQUIRE_VIRTUALENV=0
unset PYTHONHOME PYTHONPATH

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
log=$scratch/log
list=$scratch/candidates
: >"$log"

if is_sound; then
    say "Updating $venv ($level dependencies) ..."
    [ "$(stamped_level)" != dev ] || { level=dev requirement='.[dev]'; }
    rm -f "$stamp"
else
    say "Making $venv ($level dependencies; a minute or so, once) ..."
    rm -rf "$venv"
    create_with_any_python || exit 1
fi

if ! install; then
    cat "$log" >&2
    say "Installing Payday's dependencies failed; pip's own words are above. The next run starts afresh."
    exit 1
fi

{
    echo "$level"
    checksum
    identity
} >"$stamp.new"
mv "$stamp.new" "$stamp"
