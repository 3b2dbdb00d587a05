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

wanted="$stack $(cat "$requirements" requirements-dev.txt pyproject.toml | cksum)"
if [ ! -x "$venv/bin/python" ] || [ "$(cat "$venv/installed" 2>/dev/null)" != "$wanted" ]; then
    if ! python="$(find_python $pythons)"; then
        echo "No Python ${pythons// / or } was found, which the stack '$stack' needs. Install one," >&2
        echo "name it (PYTHON=/path/to/python), or use Python 3.11 with STACK=oldest." >&2
        exit 77  # what many tools of tests mean by "skipped"
    fi
    echo "Installing into $venv with $("$python" --version) ..." >&2
    rm -f "$venv/installed"
    # Packages of another Python, or of another set, must not remain.
    "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet -r "$requirements" -r requirements-dev.txt
    "$venv/bin/python" -m pip install --quiet --no-deps --editable .
    echo "$wanted" >"$venv/installed"
fi
