# Shared by the scripts in this folder: finds a Python and fills an environment with one of the
# tested sets. Nothing is installed anywhere else.
#
#   STACK=newest (the default)  requirements.txt on Python 3.13, or else 3.12, into .venv
#   STACK=3.12                  the same on Python 3.12, into .venv-3.12
#   STACK=oldest                requirements-oldest.txt on Python 3.11, into .venv-oldest
#
# PYTHON names a Python, VENV another folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1

. scripts/_python.sh

stack="${STACK:-newest}"
case "$stack" in
    newest) requirements=requirements.txt pythons="3.13 3.12" venv=.venv ;;
    3.12) requirements=requirements.txt pythons="3.12" venv=.venv-3.12 ;;
    oldest) requirements=requirements-oldest.txt pythons="3.11" venv=.venv-oldest ;;
    *) echo "STACK is '$stack', but must be newest, 3.12 or oldest" >&2 && exit 2 ;;
esac
venv="${VENV:-$venv}"
venv="${venv%/}" # its lock is a file beside it

# What the environment must have: the same packages, and our own entry points.
wanted="$stack $(sed -n '/^\[project/,/^\[tool/p' pyproject.toml | cat "$requirements" requirements-dev.txt - | cksum)"

is_installed() {
    [ -x "$venv/bin/python" ] && [ "$(cat "$venv/installed" 2>/dev/null)" = "$wanted" ]
}

install() {
    local python version
    if ! python="$(find_python $pythons)"; then
        echo "No Python ${pythons// / or } was found, which the stack '$stack' needs. Install one, or" >&2
        echo "name it: PYTHON=/path/to/python. (STACK=oldest needs Python 3.11.)" >&2
        exit 77 # what many tools of tests mean by "skipped"
    fi
    version="$stack $("$python" --version)"
    if [ "$(cat "$venv/stack" 2>/dev/null)" != "$version" ]; then
        # Packages of another Python or set must not remain; a folder that is not ours must.
        if [ -n "${VENV:-}" ] && [ -n "$(ls -A "$venv" 2>/dev/null)" ] && [ ! -f "$venv/stack" ]; then
            echo "VENV=$venv is not empty, and not an environment of these scripts" >&2
            exit 2
        fi
        [ ! -L "$venv" ] || rm "$venv"
        "$python" -m venv --clear "$venv"
        echo "$version" >"$venv/stack"
    fi
    echo "Installing into $venv with $("$venv/bin/python" --version) ..." >&2
    rm -f "$venv/installed"
    # Compiling all modules takes longer than installing them, and few are ever used. The imports
    # below compile those; if one fails, its error shows where it is used.
    "$venv/bin/python" -m pip install --quiet --no-compile -r "$requirements" -r requirements-dev.txt
    "$venv/bin/python" -m pip install --quiet --no-deps --editable .
    TF_CPP_MIN_LOG_LEVEL=3 "$venv/bin/python" -c \
        "import autokeras, pandas, pyspark.sql, scipy.stats, sklearn.ensemble, tensorflow" 2>/dev/null || true
    echo "$wanted" >"$venv/installed"
}

if ! is_installed; then
    mkdir -p "$(dirname "$venv")"
    # One at a time, where the machine has flock.
    exec 9>"$venv.lock"
    ! command -v flock >/dev/null || flock 9
    is_installed || install
    exec 9>&-
fi
