#!/bin/sh
# Makes the virtual environment, or mends it: setup.sh PYTHON VENV REQUIREMENTS
set -eu
python=$1 venv=$2 requirements=$3

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "Claude Runner needs Python 3.11 or newer, and '$python' is not: make PYTHON=/path/to/python3.11 …" >&2
    exit 1
fi
case $(command -v "$python") in
"$venv"/* | "$PWD/$venv"/*)
    echo "PYTHON names the Python of $venv, which this is about to make: name another" >&2
    exit 1
    ;;
esac
# An environment that is not known to be whole is made anew: half an installation can't be mended reliably.
if ! ls "$venv"/*.ready >/dev/null 2>&1; then
    rm -rf "$venv"
    "$python" -m venv "$venv" || {
        echo "no virtual environment can be made; on Debian and Ubuntu: sudo apt-get install python3-venv" >&2
        rm -rf "$venv"
        exit 1
    }
fi
rm -f "$venv"/*.ready
echo "installing what $requirements names …" >&2
"$venv/bin/python" -m pip install --quiet --requirement "$requirements"
