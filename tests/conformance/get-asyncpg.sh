#!/bin/bash
# get-asyncpg.sh : tests/ of the source distribution of the asyncpg that python3 has, in ${CONF:-/tmp/pgweir-conf}/src/asyncpg.
set -e
S=${CONF_SRC:-${CONF:-/tmp/pgweir-conf}/src}; V=$(/usr/bin/python3 -c 'import asyncpg; print(asyncpg.__version__)'); mkdir -p $S; cd $S
[ -d asyncpg/tests ] || { "${VENV:?}/bin/pip" download -q --no-deps --no-binary :all: asyncpg==$V; tar xzf asyncpg-$V.tar.gz; mkdir -p asyncpg; cp -r asyncpg-$V/tests asyncpg/; }
echo "asyncpg $V"
