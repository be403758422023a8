"""Causal tokens: what one connection has seen, another one reads too, through another pgweir and on a replica that is late."""
import re

import pytest
from harness.system import wait_until
from harness.wire import describe, extended, bind, execute, parse, query, sync

SCHEMA = "create table t(i int); insert into t values (0)"
READ = "select max(i) from t"
TOKEN = re.compile(r"\d+:\d+:[0-9A-F]+/[0-9A-F]+")


@pytest.fixture
def pair(new_cluster, pgweir):
    """A cluster, its database, and two proxies in front of it that know nothing of each other."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    return cluster, database, *(pgweir(on=cluster, settings={"replica_wait": "20s"}).wait_for_replicas(database) for _ in range(2))


def test_a_token_is_read_after_through_another_pgweir(pair):
    """The standby lags; without the token the other proxy cannot know of the write, with it each read waits for it there."""
    cluster, database, here, there = pair
    cluster.standby.replay_lag("100ms")
    with here.connect(database=database) as writer, there.connect(database=database) as reader:
        mark = cluster.mark()
        for turn in range(1, 8):
            writer.query(f"insert into t values ({turn})")
            token = writer.value("show pgweir.causal_token")
            assert TOKEN.fullmatch(token)
            assert reader.query(f"set pgweir.causal_token = '{token}'").tags == ["SET"]
            assert reader.value(READ) == str(turn)
        assert set(cluster.where(READ, mark)) == {"standby1"}


def test_without_the_token_the_other_pgweir_reads_the_past(pair):
    """That the test above can fail."""
    cluster, database, here, there = pair
    with here.connect(database=database) as writer, there.connect(database=database) as reader:
        reader.value(READ)
        mark = cluster.mark()
        wait_until(lambda: reader.value(READ) == "0" and cluster.where(READ, mark)[-1] == "standby1", "it reads on the standby")
        cluster.standby.pause_replay()
        writer.query("insert into t values (1)")
        assert reader.value(READ) == "0"
        token = writer.value("show pgweir.causal_token")
        reader.query("set pgweir.replica_wait = '10ms'")
        reader.query(f"set pgweir.causal_token = '{token}'")
        assert reader.value(READ) == "1"
        cluster.standby.resume_replay()


def test_a_token_of_a_read_covers_what_was_read(pair):
    """Also where the reader is content with old answers otherwise."""
    cluster, database, here, there = pair
    with here.connect(database=database) as first, there.connect(database=database) as second:
        second.query("set pgweir.consistency = 'eventual'")
        cluster.primary.query("insert into t values (5)", database=database)
        first.query("set pgweir.consistency = 'strong'")
        assert first.value(READ) == "5"
        token = first.value("show pgweir.causal_token")
        cluster.standby.pause_replay()
        cluster.primary.query("insert into t values (6)", database=database)
        second.query(f"set pgweir.causal_token = '{token}'")
        assert int(second.value(READ)) >= 5
        cluster.standby.resume_replay()


def test_tokens_inside_transactions(pair):
    """Drivers open one around everything: BEGIN that was not sent, one that has read on the standby, one that has written."""
    _, database, here, there = pair
    with here.connect(database=database) as writer, there.connect(database=database) as reader:
        writer.query("insert into t values (1)")
        writer.query("begin")
        token = writer.value("show pgweir.causal_token")
        writer.query("commit")
        for before in ([], [READ], ["insert into t values (2)"]):
            reader.query("begin")
            for sql in before:
                reader.query(sql)
            reader.query(f"set local pgweir.causal_token = '{token}'")
            assert int(reader.value(READ)) >= 1
            assert TOKEN.fullmatch(reader.value("show pgweir.causal_token"))
            assert reader.query("commit").tags == ["COMMIT"]


def test_tokens_by_the_extended_protocol(pair):
    _, database, here, there = pair
    with here.connect(database=database) as writer, there.connect(database=database) as reader:
        writer.send(parse("", "show pgweir.causal_token"), describe("S"), bind(), execute(), sync())
        kinds = [m.type for m in writer.read_until_ready()]
        assert kinds == ["1", "t", "T", "2", "D", "C", "Z"]
        token = writer.value("show pgweir.causal_token")
        reader.send(extended(f"set pgweir.causal_token to '{token}'"), sync(), query(READ))
        assert reader.brief_until_ready() == ["1", "2", "n", "C SET", "Z I"]
        assert reader.brief_until_ready()[-1] == "Z I"
        assert reader.query("reset pgweir.causal_token").tags == ["RESET"]


def test_a_bad_token_is_refused(pair):
    _, database, here, there = pair
    with here.connect(database=database) as writer, there.connect(database=database) as reader:
        token = writer.value("show pgweir.causal_token")
        system, timeline, lsn = token.split(":")
        bad = {"": "not what SHOW", "x": "not what SHOW", f"{system}:{timeline}": "not what SHOW", f"{system}:0:{lsn}": "not what SHOW",
               f"{system}:{timeline}:{lsn}:1": "not what SHOW", f"-{token}": "not what SHOW", f"{int(system) + 1}:{timeline}:{lsn}": "another database cluster",
               f"{system}:{int(timeline) + 1}:{lsn}": "timeline", f"{system}:{timeline}:FFFF/0": "position that the primary has not reached"}
        for value, detail in bad.items():
            result = reader.query(f"set pgweir.causal_token = '{value}'", check=False)
            assert result.sqlstate == "22023" and detail in result.errors[0]["D"], (value, result.errors)
            assert reader.value("select 1") == "1"
        reader.query(f"set pgweir.causal_token = '{token}'")


def wait_for_looks(node, times=3):
    """Until both monitors have looked at it so often from now on."""
    mark = node.mark()

    def looks():
        counts = {}
        for line in node.log_lines(mark):
            if line.prepared_name == "pgweir_probe":
                counts[line.pid] = counts.get(line.pid, 0) + 1
        return [n for n in counts.values() if n >= times]
    wait_until(lambda: len(looks()) >= 2, "both monitors have looked at it")


def test_tokens_across_a_promotion(pair):
    """A token of the old timeline holds at the new primary, which is known to have replayed it; one that asks for what only a primary can
    tell waits for one."""
    cluster, database, here, there = pair
    there.reload(failover_timeout="2s")
    with here.connect(database=database) as writer, there.connect(database=database) as reader:
        writer.query("insert into t values (1)")
        token = writer.value("show pgweir.causal_token")
        system, timeline, _ = token.split(":")
        writer.query("insert into t values (0)")  # what is committed behind the token's position is replayed behind it
        cluster.settle()
        wait_for_looks(cluster.standby)
        mark = there.mark()
        cluster.primary.kill()
        there.wait_for_log("no primary", mark)
        assert reader.query(f"set pgweir.causal_token = '{system}:{timeline}:FFFF/0'", check=False).sqlstate == "57P03"
        standby = cluster.standby
        standby.promote()
        cluster.switch_primary(standby)
        writer.query("insert into t values (2)")
        newer = writer.value("show pgweir.causal_token")
        assert newer.split(":")[1] == str(int(timeline) + 1)
        for position, at_least in ((token, 1), (newer, 2)):
            reader.query(f"set pgweir.causal_token = '{position}'")
            assert int(reader.value(READ)) >= at_least


def test_a_token_of_what_a_promotion_has_lost_is_refused(pair):
    """Nothing of it is there to be read: to say that it has been reached would be to read the past."""
    cluster, database, here, there = pair
    with here.connect(database=database) as writer, there.connect(database=database) as reader:
        standby = cluster.standby
        standby.stop()
        writer.query("insert into t values (1)")
        token = writer.value("show pgweir.causal_token")
        cluster.primary.kill()
        standby.start()
        standby.promote()
        cluster.switch_primary(standby)
        writer.query("insert into t values (-1)")
        newer = writer.value("show pgweir.causal_token")
        result = reader.query(f"set pgweir.causal_token = '{token}'", check=False)
        assert result.sqlstate == "22023" and "older timeline" in result.errors[0]["D"]
        reader.query(f"set pgweir.causal_token = '{newer}'")
        assert reader.value(READ) == "0"
