"""Fixtures of the integration tests.

$PGWEIR_TARGET chooses what the tests talk to: pgweir (default), pgbouncer or direct; the last two try the tests
themselves.  Only tests that hold for any right pooler use the `target` fixtures."""
import os
import shutil

import pytest

from harness.postgres import Cluster, Template
from harness.proxy import Direct, PgBouncer, Pgweir, binary
from harness.system import BUILD, Ended, Workspace
from harness.tls import Authority

TARGETS = {"pgweir": Pgweir, "pgbouncer": PgBouncer, "direct": Direct}
TARGET = os.environ.get("PGWEIR_TARGET", "pgweir")


def pytest_report_header():
    return f"target: {TARGET}" + (f" ({binary()})" if TARGET == "pgweir" else "")


@pytest.fixture(scope="session")
def workspace():
    space = Workspace()
    yield space
    space.close()


@pytest.fixture(scope="session")
def authority(workspace):
    """The certificate authority that everybody in the tests trusts."""
    return Authority(workspace)


@pytest.fixture(scope="session")
def template(workspace, authority):
    return Template(workspace, authority)


@pytest.fixture(scope="session")
def shared_cluster(template):
    """One primary and one standby, for all tests that leave their servers as they found them."""
    with Cluster(template) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster):
    """The shared cluster; what a test needs in it, it makes in a database of its own."""
    return shared_cluster


@pytest.fixture
def new_cluster(template):
    """Makes clusters of the test's own, running, to be stopped, promoted and broken: new_cluster(standbys=2, setting=...)."""
    made = []

    def make(standbys=1, **settings):
        cluster = Cluster(template, standbys, **settings)
        made.append(cluster)
        cluster.start()
        return cluster

    make.made = made
    yield make
    for cluster in made:
        cluster.remove()


@pytest.fixture
def database(cluster, request):
    """A database of what the module calls SCHEMA, or an empty one, gone after the test."""
    name = cluster.create_database(getattr(request.module, "SCHEMA", ""))
    yield name
    cluster.drop_database(name)


@pytest.fixture(scope="session")
def shared_target(shared_cluster, request):
    """What the pooler-neutral tests talk to, with default settings, one for the session."""
    with TARGETS[TARGET](shared_cluster) as target:
        yield target


@pytest.fixture
def target(shared_target):
    """See shared_target."""
    return shared_target


@pytest.fixture
def new_target(cluster):
    """Makes targets with settings of the test's own: new_target(settings={...}, ...); stopped and checked at the end."""
    made = []

    def make(on=None, **options):
        target = TARGETS[TARGET](on or cluster, **options)
        made.append(target)
        target.__enter__()
        return target

    make.made = made
    yield make
    problems = []
    for target in made:
        try:
            target.__exit__(None, None, None)
        except (AssertionError, Ended) as problem:
            problems.append(str(problem))
    assert not problems, "\n".join(problems)


@pytest.fixture
def pgweir(cluster):
    """Makes pgweir processes, whatever $PGWEIR_TARGET says: for tests of what only pgweir has."""
    made = []

    def make(on=None, **options):
        proxy = Pgweir(on or cluster, **options)
        made.append(proxy)
        proxy.__enter__()
        return proxy

    make.made = made
    yield make
    problems = []
    for proxy in made:
        try:
            proxy.stop()
        except (AssertionError, Ended) as problem:
            problems.append(str(problem))
    assert not problems, "\n".join(problems)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Keeps the logs of a failed test under build/test-logs, and shows the end of the proxy's in the report."""
    report = yield
    if report.failed:
        keep_logs(item, report)
    return report


def keep_logs(item, report):
    folder = BUILD / "test-logs" / item.nodeid.replace("/", "_").replace("::", ".")[:150]
    for log in sorted({log for value in item.funcargs.values() for log in logs_of(value) if log.exists()}):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, folder / f"{log.parent.name}-{log.name}")
        if log.name == "pgweir.log" and not any(title == str(log) for title, _ in report.sections):
            report.sections.append((str(log), log.read_text(errors="replace")[-3000:]))


def logs_of(value):
    """Log files of a fixture's value: a server's, a proxy's, a cluster's, or of all that a factory has made."""
    if isinstance(value, Cluster):
        return [node.log for node in value.nodes]
    if hasattr(value, "made"):
        return [log for one in value.made for log in logs_of(one)]
    return [value.log] if hasattr(value, "log") and hasattr(value.log, "exists") else []
