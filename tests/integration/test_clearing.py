"""Statements that want connections out of their way, which only a pooler has."""
import threading

import pytest
from harness.system import wait_until


@pytest.fixture
def database(cluster):
    name = cluster.create_database("create table t(i int)")
    yield name
    cluster.drop_database(name)


@pytest.fixture
def proxy(pgweir, cluster):
    return pgweir(settings={"workers": 2, "default_pool_size": 4, "max_pinned": 4})


def leave_connections(proxy, database):
    """Idle server connections on both workers, to both servers."""
    clients = [proxy.connect(database=database) for _ in range(4)]
    for client in clients:
        client.query("begin")
        client.query("insert into t values (1)")
    for client in clients:
        client.query("commit")
        client.query("select count(*) from t")
        client.close()


def servers(proxy, database):
    return [row for row in proxy.admin("show servers") if row["database"] == database]


STATEMENTS = {
    "drop": "drop database {0}",
    "drop, quoted": "DROP DATABASE IF EXISTS \"{0}\" -- gone",
    "rename": "alter database {0} rename to {0}_new",
    "template": "create database {0}_new template {0}",
    "template as a literal": "create database {0}_new with template = '{0}' connection limit 5",
    "tablespace": "alter database {0} set tablespace pg_default",
}


@pytest.mark.parametrize("protocol", ["query", "extended"])
@pytest.mark.parametrize("how", STATEMENTS)
def test_idle_connections_are_not_in_the_way_of(proxy, cluster, how, protocol):
    name = cluster.create_database("create table t(i int)")
    try:
        leave_connections(proxy, name)
        assert servers(proxy, name)
        with proxy.connect(database="postgres") as client:
            sql = STATEMENTS[how].format(name)
            assert (client.query(sql) if protocol == "query" else client.extended(sql)).sqlstate is None
            if how in ("rename", "template"):
                with proxy.connect(database=name + "_new") as other:
                    assert other.value("select count(*) from t") == "4"
                client.query(f"drop database {name}_new")
    finally:
        for rest in (name, name + "_new"):
            cluster.primary.query(f"drop database if exists {rest} with (force)")


def test_clients_of_a_database_are_in_its_way(proxy, cluster, database):
    """As they are without a pooler."""
    with proxy.connect(database=database) as busy, proxy.connect(database="postgres") as client:
        busy.query("begin")
        busy.query("insert into t values (1)")
        assert client.query(f"drop database {database}", check=False).sqlstate == "55006"
        assert busy.value("select count(*) from t") == "1"
        busy.query("commit")


def test_a_database_of_the_same_name_is_another_one(proxy, cluster):
    """Facts of the old one are not those of the new one."""
    name = cluster.create_database("create function f() returns int language sql stable as 'select 1'")
    try:
        proxy.wait_for_replicas(name)
        with proxy.connect(database=name) as client:
            assert client.value("select f()") == "1"
        with proxy.connect(database="postgres") as client:
            client.query(f"drop database {name}")
            client.query(f"create database {name}")
        cluster.primary.query("create sequence s; create function f() returns int language sql as 'select nextval(''s'')::int'", database=name)
        with proxy.connect(database=name) as client:
            assert client.value("select f()") == "1"
            assert client.value("select f()") == "2"
    finally:
        cluster.primary.query(f"drop database if exists {name} with (force)")


def test_vacuum_waits_for_a_load_of_facts(proxy, cluster, database):
    """Its snapshot would keep pages from being known as visible to all."""
    with cluster.primary.connect(database=database) as blocker, proxy.connect(database=database) as client:
        proxy.wait_for_replicas(database)
        blocker.query("begin")
        blocker.query("lock table pg_policy in access exclusive mode")  # the loader reads it in its middle
        client.query("create table v(i int)")
        wait_until(lambda: cluster.primary.value("select count(*) from pg_stat_activity a join pg_locks l using (pid)"
                                                 f" where datname = '{database}' and not granted") != "0", "the load waits")
        client.query("insert into v select generate_series(1, 1000)")
        vacuum = threading.Thread(target=client.query, args=("vacuum v",))
        vacuum.start()
        wait_until(lambda: "waiting" in [row["state"] for row in proxy.admin("show clients") if row["database"] == database], "VACUUM waits")
        blocker.query("rollback")
        vacuum.join()
        assert client.value("select relallvisible = relpages and relpages > 0 from pg_class where relname = 'v'") == "t"
