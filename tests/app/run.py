#!/usr/bin/env python3
"""Runs the reference application's tests directly on PostgreSQL and then through pgweir, and compares.

    run.py [direct|pgweir|pgbouncer]...      default: direct pgweir

Both ways with TLS and SCRAM and with the same settings; only host and port of DATABASE_URL differ.  A test that passes
directly and not through the proxy is a failure, and so is one that passes nowhere."""
import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

APP = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(APP.parent / "integration"))

from harness.postgres import Cluster, Template, find_programs  # noqa: E402
from harness.proxy import Direct, PgBouncer, Pgweir  # noqa: E402
from harness.system import BUILD, Workspace  # noqa: E402
from harness.tls import Authority  # noqa: E402

TARGETS = {"direct": Direct, "pgweir": Pgweir, "pgbouncer": PgBouncer}
ACCOUNTS = {"fastapi_user": "fastapi_password", "fastapi_app": "secure_password"}
HBA = """\
host    replication  all           127.0.0.1/32  trust
hostssl all          fastapi_user  127.0.0.1/32  scram-sha-256
hostssl all          fastapi_app   127.0.0.1/32  scram-sha-256
host    all          postgres      127.0.0.1/32  trust
"""


def fresh_databases(primary):
    """What docker's postgres image makes of POSTGRES_USER and POSTGRES_DB, on a server where a run may have been before."""
    for name in ("fastapi_dev", "fastapi_test", "fastapi_restore"):
        primary.query(f"drop database if exists {name} with (force)")
    primary.query("drop role if exists fastapi_app; drop role if exists fastapi_user; "
                  "create role fastapi_user login superuser password 'fastapi_password'")
    primary.query("create database fastapi_dev owner fastapi_user")


def proxy_options(authority):
    certificate, key = authority.issue("proxy")
    return {
        "accounts": ACCOUNTS,
        "databases": {"fastapi_dev_ro": {"dbname": "fastapi_dev", "route": "replica"}},
        # A busy machine must not turn reads away from the standby.
        "settings": {"replica_wait": "2s", "auth_type": "scram-sha-256", "client_tls_sslmode": "require", "client_tls_cert_file": certificate,
                     "client_tls_key_file": key, "server_tls_sslmode": "verify-full", "server_tls_ca_file": authority.ca},
    }


def environment(endpoint, replica_port, replica_database, authority):
    """DATABASE_URL as the guide writes it for production."""
    account = "postgresql+asyncpg://fastapi_user:fastapi_password@127.0.0.1"
    return {**os.environ, "PATH": f"{find_programs()}:{os.environ['PATH']}", "DATABASE_SSL": "true",
            "DATABASE_URL": f"{account}:{endpoint.port}/fastapi_dev?sslmode=require",
            "REPLICA_DATABASE_URL": f"{account}:{replica_port}/{replica_database}?sslmode=require",
            "SSL_CERT_FILE": str(authority.ca)}


def run_tests(label, variables, report):
    """{test: passed?} of one run of the application's tests."""
    report.unlink(missing_ok=True)
    subprocess.run([sys.executable, "-B", "-m", "pytest", "-q", "-ra", f"--junitxml={report}", "-c", "pytest.ini"], cwd=APP,
                   env=variables, check=False, timeout=900)
    cases = ElementTree.parse(report).getroot().iter("testcase") if report.exists() else []
    results = {f"{case.get('classname')}::{case.get('name')}": not len(case) for case in cases}
    print(f"app, {label}: {sum(results.values())} of {len(results)} pass", flush=True)
    return results


def run_load(cluster, variables):
    """Where the reads of a load ran that mostly reads: at least nine in ten on the standby, or what is wrong."""
    mark = cluster.mark()
    done = subprocess.run([sys.executable, "-B", "load.py"], cwd=APP, env={**variables, "APPLICATION_NAME": "load"}, timeout=300,
                          capture_output=True, text=True, check=False)
    if done.returncode:
        return f"load: {done.stderr[-2000:]}"
    ran = {name: sum(1 for line in lines if line.application == "load" and "LIMIT" in line.statement)
           for name, lines in cluster.statements(mark).items()}
    print(f"app, load: reads ran on {ran}", flush=True)
    return None if ran["standby1"] >= 9 * ran["primary"] and ran["standby1"] else f"load: reads ran on {ran}"


def run_against(label, cluster, authority):
    fresh_databases(cluster.primary)
    mark = cluster.mark()
    report = BUILD / "test-results" / f"app-{label}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    options = {} if label == "direct" else proxy_options(authority)
    if label == "pgbouncer":
        options["databases"] = {"fastapi_dev_ro": {"dbname": "fastapi_dev"}}
    with TARGETS[label](cluster, **options) as endpoint:
        replica = (cluster.standby.port, "fastapi_dev") if label == "direct" else (endpoint.port, "fastapi_dev_ro")
        variables = environment(endpoint, *replica, authority)
        results = run_tests(label, variables, report)
        where = reads(cluster, mark)
        problem = run_load(cluster, variables) if label == "pgweir" else None
        assert not problem, problem
    return results, where


def reads(cluster, mark):
    """How many of the application's SELECTs each server ran."""
    return {name: sum(1 for line in lines if re.match(r"\s*select", line.statement, re.I) and "users" in line.statement)
            for name, lines in cluster.statements(mark).items()}


def main():
    labels = sys.argv[1:] or ["direct", "pgweir"]
    workspace = Workspace()
    problems, passed = [], 0
    try:
        authority = Authority(workspace)
        results = {}
        with Cluster(Template(workspace, authority), hba=HBA) as cluster:
            for label in labels:
                try:
                    results[label], where = run_against(label, cluster, authority)
                except AssertionError as problem:
                    problems.append(f"{label}: {problem}")
                    continue
                print(f"app, {label}: reads of users ran on {where}", flush=True)
        for label, outcome in results.items():
            passed += sum(outcome.values())
            problems += [f"{label}: {test}" for test, good in outcome.items() if not good]
            problems += [f"{label}: {test} did not run" for test in results.get("direct", {}) if test not in outcome]
            problems += [] if outcome else [f"{label}: no test ran"]
    finally:
        workspace.close()
    for problem in problems:
        print(f"FAILED {problem}")
    print(f"app: {passed} passed, {len(problems)} failed, 0 skipped")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
