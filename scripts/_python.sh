# Shared by the scripts in this folder: finds a Python by its version.

# Print the first Python of the versions: PYTHON, then the path, then pyenv's folders.
find_python() {
    local version candidate
    for version in "$@"; do
        for candidate in "${PYTHON:-}" "python$version" python3 \
            "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python "/opt/python$version/bin/python" \
            "/usr/local/bin/python$version"; do
            if [ -n "$candidate" ] && has_version "$candidate" "$version"; then
                echo "$candidate"
                return
            fi
        done
    done
    return 1
}

has_version() {
    "$1" -c "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" 2>/dev/null
}
