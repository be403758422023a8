"""The harness itself, without a proxy: what the other tests take for granted."""
import time

import pytest
from harness import wire
from harness.network import Link
from harness.postgres import PASSWORD
from harness.system import wait_until

pytestmark = pytest.mark.xdist_group("harness")


def test_statements_are_found_where_they_ran(cluster, database):
    mark = cluster.mark()
    with wire.Connection.login(cluster.standby.port, database=database, application_name="an app") as client:
        client.query("select 'simple'")
        client.extended("select\n$1::text", ["x"], statement="named")
    assert cluster.where("select 'simple'", mark) == ["standby1"]
    assert cluster.where("select\n$1::text", mark, application="an app") == ["standby1"]
    assert cluster.standby.statements(mark["standby1"], database=database)[-1].prepared_name == "named"
    assert cluster.statements(mark)["primary"] == []


def test_errors_are_found_with_their_sqlstate(cluster):
    mark = cluster.standby.mark()
    with wire.Connection.login(cluster.standby.port) as client:
        assert client.query("create table t(i int)", check=False).sqlstate == "25006"
    assert [line.sqlstate for line in cluster.standby.errors(mark)] == ["25006"]


@pytest.mark.parametrize("user", ["scram_user", "md5_user", "password_user"])
def test_every_kind_of_password(cluster, user):
    with cluster.primary.connect(user, password=PASSWORD) as client:
        assert client.value("select current_user") == user
    with pytest.raises(wire.PgError) as refusal:
        cluster.primary.connect(user, password="wrong")
    assert refusal.value.sqlstate == "28P01"


def test_tls_to_a_server(cluster, authority):
    with cluster.primary.connect("tls_user", password=PASSWORD, tls=wire.tls_context(authority.ca)) as client:
        assert client.value("select ssl from pg_stat_ssl where pid = pg_backend_pid()") == "t"
    with pytest.raises(wire.PgError):
        cluster.primary.connect("tls_user", password=PASSWORD)


def test_a_standby_that_lags_stops_and_comes_back(new_cluster):
    cluster = new_cluster(standbys=2)
    first, second = cluster.standbys
    cluster.primary.query("create table t(i int)")
    cluster.settle()
    first.pause_replay()
    cluster.primary.query("insert into t values (1)")
    wait_until(lambda: second.value("select count(*) from t") == "1", "the other standby goes on")
    assert first.value("select count(*) from t") == "0"
    first.resume_replay()
    cluster.settle()
    assert first.value("select count(*) from t") == "1"
    second.kill()
    second.start()
    cluster.settle()
    assert second.value("select count(*) from t") == "1"


def test_promotion(new_cluster):
    cluster = new_cluster()
    old, new = cluster.primary, cluster.standby
    old.kill()
    new.promote()
    cluster.switch_primary(new)
    new.query("create table written_by_the_new_primary(i int)")
    assert [node.name for node in cluster.nodes] == ["standby1", "primary"]


def test_link_forwards_delays_and_splits(cluster):
    with Link(cluster.primary.port) as link:
        with wire.Connection.login(link.port) as client:
            assert client.value("select repeat('x', 100000)") == "x" * 100000
            link.piece = 1
            assert client.value("select 'in small pieces'") == "in small pieces"
            link.piece, link.delay = 65536, 0.05
            began = time.monotonic()
            client.query("select 1")
            assert time.monotonic() - began >= 0.1


def test_link_stalls_and_cuts(cluster):
    with Link(cluster.primary.port) as link:
        client = wire.Connection.login(link.port)
        link.stall("down")
        client.send(wire.query("select 'late'"))
        assert client.nothing_comes()
        link.resume()
        assert "D late" in client.brief_until_ready()
        link.cut()
        assert client.is_closed()
        client.drop()
        link.refuse()
        with pytest.raises((wire.Closed, OSError)):
            wire.Connection.login(link.port)
        link.allow()
        wire.Connection.login(link.port).close()
