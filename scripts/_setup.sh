# Shared by the scripts in this folder: finds a supported Python and fills .venv from
# requirements-dev.txt. Nothing is installed anywhere else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1

supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3.11}" python3.11 python3.12 python3; do
        if command -v "$candidate" >/dev/null && supported "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "No Python 3.11 or 3.12 was found. Install one, or name it: PYTHON=/path/to/python" >&2
    return 1
}

venv="${VENV:-.venv}"
wanted="$(cat requirements.txt requirements-dev.txt pyproject.toml | cksum)"
if [ ! -x "$venv/bin/python" ] || [ "$(cat "$venv/installed" 2>/dev/null)" != "$wanted" ]; then
    python="$(find_python)"
    echo "Installing into $venv with $("$python" --version) ..." >&2
    rm -f "$venv/installed"
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet -r requirements-dev.txt
    "$venv/bin/python" -m pip install --quiet --no-deps --editable .
    echo "$wanted" >"$venv/installed"
fi
