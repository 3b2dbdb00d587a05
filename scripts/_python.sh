# Shared by the scripts in this folder: finds a Python by its version.

# Print the first Python that has one of the versions. PYTHON, if set, is the only candidate; else the
# path and pyenv's folders are searched, version by version.
find_python() {
    local version candidate
    if [ -n "${PYTHON:-}" ]; then
        for version in "$@"; do
            if has_version "$PYTHON" "$version"; then
                echo "$PYTHON"
                return
            fi
        done
        return 1
    fi
    for version in "$@"; do
        for candidate in "python$version" python3 \
            "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$version".*/bin/python \
            "/usr/local/bin/python$version"; do
            if has_version "$candidate" "$version"; then
                echo "$candidate"
                return
            fi
        done
    done
    return 1
}

# Whether a Python has a version, and can make environments. Debian's may lack ensurepip.
has_version() {
    "$1" -c "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" \
        2>/dev/null
}
