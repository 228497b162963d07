#!/bin/sh
# tests/oracle/oracle.sh SCRIPT: run one oracle as CTest does; exit status 77 (skipped) where its Python isn't there
[ -x "$PAPA_TEST_PYTHON" ] || { echo "skipped: no $PAPA_TEST_PYTHON (tests/run makes it)"; exit 77; }
exec "$PAPA_TEST_PYTHON" "$@"
