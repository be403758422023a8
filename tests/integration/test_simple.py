"""Simple queries that repeat are run as shared prepared statements (simple_query_cache), and nobody can tell: each answer is
compared, byte by byte, with that of a connection without a proxy.  The server's log says what was run how."""
import collections
import itertools
import threading

import pytest
from harness.system import wait_until
from harness.wire import bind, execute, sync

SCHEMA = """
create type mood as enum ('sad', 'ok', 'happy');
create domain small as int check (value < 100);
create domain word as text check (value <> 'bad');
create table w(id int primary key, i2 int2, i8 int8, n numeric(8,2), f8 float8, t text, v varchar(5), c char(5), d date,
               ts timestamp, tz timestamptz, tm time, iv interval, b bool, u uuid, j jsonb, a int[], ip inet, by bytea,
               m mood, ds small, dw word, bi bit(4), nm name, o oid, ch "char", mo money, x xml, js json);
insert into w select g, g, g * 1000000000000, g + 0.25, g / 2.0, 'n' || g, 'v' || g, 'c' || g, date '2024-01-01' + g,
               timestamp '2024-01-01' + g * interval '1 hour', timestamptz '2024-01-01 00:00Z' + g * interval '1 day',
               time '10:00' + g * interval '1 minute', g * interval '1 day', g % 2 = 0, ('00000000-0000-0000-0000-00000000000' || g)::uuid,
               jsonb_build_object('k', g), array[g, g + 1], ('10.0.0.' || g)::inet, ('b' || g)::bytea,
               (array['sad', 'ok', 'happy'])[1 + g % 3]::mood, g, 'w' || g, g::bit(4), 'name' || g, g, g::text::"char", g::text::money,
               '<x/>', '{}' from generate_series(1, 9) g;
create view seen as select id, t, n from w where id > 2;
create table part(k int, note text) partition by list (k);
create table part1 partition of part for values in (1);
create table part2 partition of part for values in (2, 3);
insert into part select 1 + g % 3, 'p' || g from generate_series(1, 30) g;
"""
ONE = {"default_pool_size": 1, "workers": 1, "route": "primary", "simple_query_cache": 1}
TRUE_FIRST = 8  # true executions before a shape is shared

# Literals for each column: some that are there, some that are not, some that its type refuses.
LITERALS = {
    "id": ("5", "0", "2147483647", "'5'", "'x'", "2147483648", "'99999999999'"), "i2": ("5", "40000", "'5'", "'40000'", "'1.5'"),
    "i8": ("5000000", "'5000000000000'", "5000000000000", "'12345678901234567890'"), "n": ("5", "'5.25'", "5.25", "'NaN'", "'1e400000'"),
    "f8": ("2", "'2.5'", "'infinity'", "'1e400'"), "t": ("'n5'", "''", "'it''s'", "'''n5'''", "'\\n5'", "'ü'", "5"),
    "v": ("'v5'", "'v5   '", "'longer than five'"), "c": ("'c5'", "'c5   '", "'longer than five'"),
    "d": ("'2024-01-05'", "'05.01.2024'", "'2024-01-05 10:00'", "'2024-02-31'", "'infinity'", "'epoch'"),
    "ts": ("'2024-01-01 05:00'", "'2024-01-01T05:00:00Z'", "'nonsense'"), "tz": ("'2024-01-03 00:00Z'", "'2024-01-03'", "'2024-01-03 00:00 Nowhere/X'"),
    "tm": ("'10:05'", "'25:00'"), "iv": ("'2 days'", "'P2D'", "'48 hours'", "'2 dayz'"), "b": ("'t'", "'yes'", "'maybe'", "1"),
    "u": ("'00000000-0000-0000-0000-000000000005'", "'5'"), "j": ("'{\"k\": 5}'", "'{\"k\":5}'", "'{k}'"), "a": ("'{5,6}'", "'{5'"),
    "ip": ("'10.0.0.5'", "'10.0.0.5/32'", "'300.0.0.1'"), "by": ("'b5'", "'\\x6235'", "'\\x6'"), "m": ("'ok'", "'angry'"),
    "ds": ("5", "'5'", "500", "'500'"), "dw": ("'w5'", "'bad'"), "bi": ("'0101'", "'01012'", "'01'"), "nm": ("'name5'", "'" + "x" * 80 + "'"),
    "o": ("5", "'5'", "'-1'"), "ch": ("'5'", "'55'"), "mo": ("'$5.00'", "'5'", "5"), "x": ("'<x/>'",), "js": ("'{}'",),
}
FORMS = (
    "select * from w where {c} = {l}",
    "select id, {c} as x from only w as q where {l} <> q.{c} order by id",
    "select id from w where {c} in ({l}, {m}) order by id desc",
    "select {c}, {c}::text from w where {c} between {l} and {m} order by id",
    "select count(*), min(id) from w where not ({c} <= {l}) or id = 2",
    "select a.id from w a left join w b on a.id = b.id and b.{c} >= {l} where b.id is not null order by 1",
    "select a.id from w a left join w b on a.id = b.id and b.{c} >= {l} where b.id is not null order by a.id limit 4 offset 1",
)
# Literals elsewhere, or of other kinds; what must not become parameters would be another statement.
ODD = (
    "select 'x'", "select 1, 2.5, 'a'::text", "select 5 from w fetch first row only", "select id, t from w order by 2 desc limit 3",
    "select id % 2, count(*) from w group by 1 order by 1", "select id % 2 from w group by id % 2 order by id % 2",
    "select id from w where id = -5", "select id from w where id > -5 order by id", "select id from w where t = E'n\\x35'",
    "select id from w where t = 'n'\n'5'", "select id from w where t = $$n5$$", "select id from w where t = U&'n\\0035'",
    "select id from w where d < 'today' order by id", "select id from w where id = 1/0", "select id from w where id = 5 or 1/0 = 1",
    "select id from w where d > date '2024-01-05' order by id", "select id from w where i8 = 5000000000000",
    "select id from w where t like 'n5%'", "select id from w where t = 'n5' collate \"C\"", "select id from w limit 0",
    "select id from w order by id limit -1", "select id from w where id = 5 limit 'x'", "select id from w order by id limit '2'",
    "select id from w where t = $1", "select id from w where id = 5 and t = $1", "select id from w where id = 1; select id from w where id = 2",
    "select id from w where id = 5;", " /* a */ select id from w -- b\n where id = 5 ;; -- c", "select id from w where id=5and t='n5'order by id",
    "select distinct on (b) b, id from w order by b, id limit 2", "select id from w where (id, t) = (5, 'n5')", "select id from w where id = 5::int2",
    "select id from w where coalesce(t, 'x') = 'n5'", "select case when id = 5 then 'five' else t end from w order by id",
    "select id from w where id = any('{1,2}') order by id", "select id from w where exists (select from w b where b.id = 5) order by id",
    "with q as (select id from w where id = 5) select * from q", "select id from w where id = 5 union select id from w where id = 6 order by 1",
    "values (1), (2)", "table seen order by id limit 2", "select * from seen where t = 'n5'", "select * from nowhere where id = 5",
    "select nothing from w where id = 5", "select id from w where id == 5", "select id form w where id = 5", "select pg_typeof(t) from w where t = 'n5'",
    "select current_query() from w where id = 5", "select query from pg_stat_activity where pid = pg_backend_pid() and usesysid = 10",
    "select id from w where t is null or t = 'n5' or t is not distinct from 'n6' order by id", "select id from w where w = '(5)'",
    "select id from w where ip << '10.0.0.0/8' order by id", "select id from w where a @> '{5}' order by id", "select id from w where j @> '{\"k\": 5}'",
    "select i2 / (id - 5) from w where id >= 4 order by id", "select i2 / (id - 5) from w where id = 5", "select t::int from w where id = 5",
    "select * from part where k = 2 order by note", "select count(*) from part where k in (1, 3)", "select sum(id) from w where t > 'n1' having count(*) > 2",
    "select lag(id, 1) over (order by id) from w where id < 4", "select id from w tablesample system (100) where id = 5",
    "select id from w where id = 1 or id = 2 or id = 3 or id = 4 or id = 5 or id = 6 or id = 7 or id = 8 or id = 9 order by id",
    "select id from w where id = 5 for update", "explain (costs off) select id from w where id = 5", "select",
    "select id from w where id = 0x5", "select id from w where id = 1_0", "select id from w where b", "select \"id\" from \"w\" where \"w\".\"t\" = 'n5'",
    "select id from pg_class where relname = 'w'", "select relname from pg_class where relname = 'w'", "select id as \"ID\" from public.w where w.id = 5",
)


@pytest.fixture
def single(pgweir, database):
    """One backend."""
    return pgweir(settings=ONE)


def told(client, sql):
    """All of an answer, byte by byte, but for settings and for where in PostgreSQL's source an error was made."""
    result = client.query(sql, check=False)
    return [(m.type, sorted(f for f in m.fields.items() if f[0] not in "FLR") if m.type in "EN" else m.body)
            for m in result.messages if m.type != "S"]


def shared(node, mark, text=None):
    """Statements that were run by a name of ours: {text: times}."""
    return collections.Counter(line.statement for line in node.statements(mark)
                               if (line.prepared_name or "").startswith("pgweir_") and (text is None or line.statement == text))


def until_shared(client, node, sql):
    def is_shared():
        mark = node.mark()
        client.query(sql, check=False)
        return any("$1" in text for text in shared(node, mark))

    wait_until(is_shared, f"{sql} is shared")


def warm(client, sql):
    for _ in range(TRUE_FIRST):
        client.query(sql, check=False)


@pytest.mark.parametrize("third", range(3))
def test_answers_are_those_of_a_private_connection(cluster, single, database, third):
    """Every literal in every place, first as it is, then shared."""
    columns = list(LITERALS)[third::3]
    with single.connect(database=database) as client, cluster.primary.connect(database=database) as private:
        until_shared(client, cluster.primary, "select id from w where id = 5")  # the facts are there
        mark = cluster.primary.mark()
        for column, form in itertools.product(columns, FORMS):
            literals = LITERALS[column]
            for i, literal in enumerate(literals):
                sql = form.format(c=column, l=literal, m=literals[(i + 1) % len(literals)])
                if i == 0:
                    warm(client, sql)
                for _ in range(2):
                    assert told(client, sql) == told(private, sql), sql
    texts = shared(cluster.primary, mark)
    for column in set(columns) - {"x", "js"}:  # these cannot be compared
        assert FORMS[0].format(c=column, l="$1") in texts


def test_odd_ones_are_as_they_were(cluster, single, database):
    with single.connect(database=database) as client, cluster.primary.connect(database=database) as private:
        until_shared(client, cluster.primary, "select id from w where id = 5")
        for sql in ODD:
            if "pg_stat_activity" in sql or "current_query" in sql:
                answers = {str(told(client, sql)) for _ in range(TRUE_FIRST + 4)}
                assert len(answers) == 1 and "$1" not in answers.pop(), sql
                continue
            warm(client, sql)
            for _ in range(3):
                assert told(client, sql) == told(private, sql), sql


@pytest.mark.parametrize("sql, text", [
    ("select id from w where id = 5;", "select id from w where id = $1"),
    ("SELECT id FROM w -- which\n WHERE t = 'it''s'", "SELECT id FROM w WHERE t = $1"),
    ("select id from w where t in ('a','b') and id<5 limit 3", "select id from w where t in ( $1, $2) and id < $3 limit $4"),
])
def test_what_is_run(cluster, single, database, sql, text):
    mark = cluster.primary.mark()
    with single.connect(database=database) as client:
        until_shared(client, cluster.primary, sql)
    assert set(shared(cluster.primary, mark)) == {text}


def test_only_where_it_is_asked_for(cluster, pgweir, database):
    proxy = pgweir(settings={**ONE, "simple_query_cache": 0})
    mark = cluster.primary.mark()
    with proxy.connect(database=database) as client:
        for _ in range(30):
            client.query("select id from w where id = 5")
    assert not shared(cluster.primary, mark)


def test_rule_d6_errors_point_into_the_clients_text(cluster, single, database):
    """PostgreSQL tells of the parameter, not of the literal and where it stands."""
    with single.connect(database=database) as client, cluster.primary.connect(database=database) as private:
        until_shared(client, cluster.primary, "select id from w where id = '5'")
        for value in ("x", "99999999999", ""):
            sql = f"select id from w where id = '{value}'"
            answer = told(client, sql)
            assert ("P", "29") in dict(answer)["E"] and answer == told(private, sql)
            assert told(client, "select id from w where id = '5'") == told(private, "select id from w where id = '5'")


def test_errors_in_the_middle_of_rows(cluster, single, database):
    """What was shown is not shown again."""
    sql = "select repeat(t, (id * i8 / 50000000000)::int), i2 / (id - 9) from w where id >= {} order by id"
    with single.connect(database=database) as client, cluster.primary.connect(database=database) as private:
        until_shared(client, cluster.primary, "select id from w where id = 5")
        for low in (1, 9, 8, 2) * 4:
            assert told(client, sql.format(low)) == told(private, sql.format(low))


def test_columns_follow_ddl(cluster, single, database):
    """Through the proxy and past it: neither old columns nor an error about plans."""
    sql = "select * from part where k = 2 order by note limit 1"
    with single.connect(database=database) as client, cluster.primary.connect(database=database) as private:
        for n in range(3):
            until_shared(client, cluster.primary, sql)
            (client if n % 2 else private).query(f"alter table part add column more{n} int default {n}")
            assert told(client, sql) == told(private, sql)
        until_shared(client, cluster.primary, sql)
        private.query("alter table part rename note to noted")
        assert told(client, sql) == told(private, sql)


def test_types_follow_ddl(cluster, single, database):
    with single.connect(database=database) as client, cluster.primary.connect(database=database) as private:
        until_shared(client, cluster.primary, "select note from part where note = '5'")
        client.query("alter table part alter note type varchar(3)")
        assert told(client, "select note from part where note = 'p12'") == told(private, "select note from part where note = 'p12'")
        client.query("create table later(k text); insert into later values ('5')")
        until_shared(client, cluster.primary, "select k from later where k = '5'")
        client.query("alter table later alter k type int using k::int")
        for value in ("5", "1.5", "x"):
            sql = f"select k from later where k = '{value}'"
            assert told(client, sql) == told(private, sql)


def test_settings_are_the_clients_own(cluster, single, database):
    """DateStyle, TimeZone, search_path and role: by which a literal and a name are read."""
    cluster.primary.query("create schema other; create table other.w(id int, d date); insert into other.w values (5, '2024-02-01'); "
                          "create role reader; grant usage on schema other to reader; grant select on other.w to reader", database=database)
    sql = "select id, d from w where d = '01/02/2024'"
    try:
        with single.connect(database=database) as client, single.connect(database=database, DateStyle="SQL, DMY") as dmy, \
                single.connect(database=database, options="-c search_path=other -c datestyle=iso,dmy") as other:
            privates = [cluster.primary.connect(database=database), cluster.primary.connect(database=database, DateStyle="SQL, DMY"),
                        cluster.primary.connect(database=database, options="-c search_path=other -c datestyle=iso,dmy")]
            for _ in range(TRUE_FIRST + 6):
                for c, private in zip((client, dmy, other), privates):
                    assert told(c, sql) == told(private, sql)
            other.query("set role reader")
            privates[2].query("set role reader")
            for text in (sql, "select id from public.w where id = 5"):
                for _ in range(TRUE_FIRST + 4):
                    assert told(other, text) == told(privates[2], text)
            for private in privates:
                private.close()
    finally:
        cluster.primary.query("drop owned by reader; drop role reader", database=database)


def test_row_security_is_the_roles_own(cluster, single, database):
    cluster.primary.query("create role one; create role two; create table rls(owner name, k int); grant select on rls to one, two; "
                          "insert into rls values ('one', 5), ('two', 5); alter table rls enable row level security; "
                          "create policy p on rls using (owner = current_user)", database=database)
    try:
        with single.connect(database=database) as client, cluster.primary.connect(database=database) as private:
            for _ in range(TRUE_FIRST + 4):
                for role in ("one", "two"):
                    for c in (client, private):
                        c.query(f"set role {role}")
                    sql = "select owner from rls where k = 5"
                    assert told(client, sql) == told(private, sql)
    finally:
        cluster.primary.query("drop owned by one, two; drop role one, two", database=database)


def test_a_query_ends_the_unnamed_statement(cluster, single, database):
    with single.connect(database=database) as client:
        until_shared(client, cluster.primary, "select id from w where id = 5")
        client.extended("select 7")
        client.query("select id from w where id = 5")
        client.send(bind("", ""), execute(), sync())
        assert client.brief_until_ready() == ["E 26000", "Z I"]


def test_in_a_transaction_it_is_a_query(cluster, single, database):
    sql = "select id from w where id = 5"
    with single.connect(database=database) as client:
        until_shared(client, cluster.primary, sql)
        mark = cluster.primary.mark()
        client.query("begin")
        for _ in range(3):
            client.query(sql)
        client.query("commit")
        assert not shared(cluster.primary, mark, "select id from w where id = $1")


def test_on_a_standby(cluster, pgweir, database):
    settings = {k: v for k, v in ONE.items() if k != "route"}
    proxy = pgweir(settings=settings).wait_for_replicas(database)
    with proxy.connect(database=database) as client, cluster.primary.connect(database=database) as private:
        until_shared(client, cluster.standby, "select t from w where id = '5'")
        for value in ("7", "x", "5", "99999999999", "0"):
            sql = f"select t from w where id = '{value}'"
            assert told(client, sql) == told(private, sql)


def test_a_cancel_reaches_it(cluster, single, database):
    """Not run a second time."""
    sql = "select count(*) from w a, w b, w c, w d, w e, w f, w g, w h, w i, w j, w k where a.id < {}"
    with single.connect(database=database) as client:
        for _ in range(TRUE_FIRST + 1):
            client.query(sql.format(0))
        mark = cluster.primary.mark()
        client.query("set statement_timeout = 500")
        for _ in range(2):
            assert client.query(sql.format(10), check=False).sqlstate == "57014"
        assert len(cluster.primary.errors(mark)) == 2


def test_many_clients_at_once(cluster, pgweir, database):
    """Two backends, eight clients, each with values of its own."""
    proxy = pgweir(settings={**ONE, "default_pool_size": 2})
    wrong = []

    def work(k):
        with proxy.connect(database=database) as client:
            for n in range(200):
                i = 1 + (k + n) % 9
                got = [m.values for m in client.query(f"select id, t from w where id = {i}").messages if m.type == "D"]
                if got != [(str(i), f"n{i}")]:
                    wrong.append((i, got))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
