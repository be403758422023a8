"""Settings under transaction pooling: the same programs on private connections and through one backend, compared answer by
answer, ParameterStatus included."""
import pytest
from harness.system import wait_until
from harness.wire import Connection, bind, execute, sync

SCHEMA = """
create schema a; create schema "B c"; create table a.t(x text); create table "B c".t(x text);
insert into a.t values ('a'); insert into "B c".t values ('b'); grant usage on schema a to public; grant select on a.t to public;
create function sets(text, text) returns text language plpgsql as
    $$ begin return set_config('work_mem', $1, false) || set_config('timezone', $2, false); end $$;
create table audited(x text); create function audit() returns trigger language plpgsql as
    $$ begin perform set_config('lc_monetary', new.x, false); return new; end $$;
create trigger audit before insert on audited for each row execute function audit();
create procedure commits(text) language plpgsql as
    $$ begin perform set_config('work_mem', $1, false); commit; perform set_config('timezone', 'UTC', false); rollback; end $$;
"""

# Each client's program; *: by the extended protocol.  Statements of a transaction belong together.
PROGRAMS = {
    "outside": ["set work_mem = '5MB'", "set datestyle = german", "set timezone to 'Asia/Tokyo'", "set time zone -3",
                "*set bytea_output = escape", "set session work_mem to 77777", "select set_config('statement_timeout', '99s', false)",
                "set names latin1", "set work_mem = 'nonsense'", "set nosuch = 1", "set extra_float_digits to 1",
                "set time zone interval '-08:00' hour to minute", "set local work_mem = '9MB'", "set client_min_messages to error",
                "select set_config('timezone', x, false) from (values ('UTC'), ('Asia/Tokyo')) v(x)",
                "set application_name = 'mine'", "set intervalstyle = 'iso_8601'"],
    "code": ["do $$ begin perform set_config('work_mem', '6MB', false); end $$", "select sets('7MB', 'Asia/Tokyo')",
             "*select sets('8MB', 'America/Lima')", "select sets('9MB', 'nowhere')", "begin", "select sets('10MB', 'UTC')",
             "rollback", "begin", "select sets('11MB', 'UTC')", "commit", "insert into audited values ('C')",
             "insert into audited values ('POSIX'), ('nowhere')", "*insert into audited values ('POSIX')", "call commits('12MB')",
             "*call commits('13MB')", "call commits('x')"],
    "transactions": ["begin", "set work_mem = '5MB'", "set local timezone = 'UTC'", "commit",
                     "begin", "set work_mem = '6MB'", "savepoint a", "set work_mem = '7MB'", "rollback to a", "set datestyle = sql",
                     "release a", "commit", "begin", "set work_mem = '8MB'", "select 1/0", "rollback",
                     "begin", "set timezone = 'Asia/Tokyo'", "savepoint s", "set timezone = 'UTC'", "select 1/0", "rollback to s",
                     "commit", "begin", "set local work_mem = '1MB'", "set work_mem = '9MB'", "set local work_mem = '2MB'", "commit",
                     "begin", "set local work_mem = '1MB'", "rollback", "begin", "select 1/0", "commit",
                     "begin", "*set bytea_output = escape", "*savepoint s", "*set bytea_output = hex", "*release s", "*rollback",
                     "start transaction isolation level repeatable read", "set work_mem = '3MB'", "commit and chain",
                     "set work_mem = '4MB'", "rollback and chain", "set work_mem = '5MB'", "commit",
                     "begin; set work_mem = '6MB'; commit; set work_mem = '7MB'; select 1/0", "set work_mem = '8MB'; select 1/0",
                     "set work_mem = '9MB'; begin; set work_mem = '10MB'; rollback", "set work_mem = '11MB'; set timezone = 'UTC'"],
    "lists": ["set search_path = a, public", "select * from t", "set search_path to '$user', \"B c\"", "*select x from t",
              "set search_path = 'a, public'", "set search_path to ''", "select set_config('search_path', '', false)",
              "select set_config('search_path', 'a,\"B c\"', false)", "select x from t", "begin", "set local search_path = \"B c\"",
              "select x from t", "commit", "select x from t", "set datestyle = 'iso, dmy'", "set datestyle to iso, mdy",
              "set schema 'a'", "select x from t", "set search_path to default", "reset search_path",
              "set temp_tablespaces = ''", "set search_path = a, pg_catalog", "select x, upper(x) from t"],
    "reset": ["set work_mem = '5MB'", "reset work_mem", "set work_mem to default", "set timezone = 'Asia/Tokyo'", "set datestyle = sql",
              "*reset timezone", "reset all", "set timezone = 'Asia/Tokyo'", "begin", "reset timezone", "set datestyle = german",
              "rollback", "begin", "set local timezone to default", "set local datestyle to default", "commit",
              "set application_name = 'mine'", "reset application_name -- comment", "set work_mem = '5MB'", "discard all",
              "set work_mem = '6MB'", "*discard all", "*reset all", "reset nosuch", "set session characteristics as transaction read only",
              "insert into a.t values ('no')", "reset default_transaction_read_only", "set work_mem = '6MB'; reset work_mem",
              "begin", "set timezone = 'UTC'", "savepoint a", "reset timezone", "rollback to a", "commit", "reset role",
              "reset timezone", "discard plans", "discard sequences"],
    "roles": ["set role joe", "select current_user", "reset role", "set session authorization joe", "select session_user, current_user",
              "set role none", "reset session authorization", "set session authorization joe", "set role anne", "set role none",
              "set session authorization default", "begin", "set role joe", "rollback", "begin", "set local role joe", "commit",
              "set role nosuch", "set role joe", "set log_statement = 'all'", "set work_mem = '5MB'", "reset all", "reset role",
              "set log_min_duration_statement = 77", "set role joe", "select x from a.t", "insert into a.t values ('no')",
              "select set_config('role', 'anne', false)", "select set_config('role', 'none', false)", "discard all"],
    "defaults": ["set session characteristics as transaction isolation level serializable", "show transaction_isolation",
                 "begin", "show transaction_isolation", "commit", "*select 1", "begin read only", "show transaction_isolation", "commit",
                 "set default_transaction_read_only = on", "insert into a.t values ('no')", "begin", "insert into a.t values ('no')",
                 "rollback", "begin read write", "insert into audited values ('C')", "commit", "set transaction_read_only = off",
                 "set default_transaction_isolation = 'repeatable read'", "begin", "show transaction_isolation", "select 1",
                 "show transaction_read_only", "commit", "*begin", "*show transaction_isolation", "*commit",
                 "reset default_transaction_read_only", "insert into audited values ('C')", "begin; show transaction_isolation; commit",
                 "set session characteristics as transaction read write, isolation level read committed, not deferrable",
                 "show transaction_isolation", "begin", "set transaction isolation level serializable", "show transaction_isolation",
                 "commit"],
    "custom": ["select current_setting('app.x', true)", "set app.x = 'one'", "select current_setting('app.x', true)", "reset app.x",
               "begin", "set local app.y = 'two'", "select current_setting('app.y')", "commit", "select current_setting('app.y')",
               "select set_config('app.z', 'three', false)", "*select set_config('app.z', 'four', true)", "reset all",
               "begin", "set app.rolled = 'back'", "rollback", "select current_setting('app.rolled', true)",
               "set app.\"order\" = 'key word'", "select current_setting('app.order')", "set app.x = 'it''s \\ here'", "discard all",
               "select current_setting('app.x')", "select current_setting('app.never')", "set plpgsql.variable_conflict = use_column",
               "do $$ begin perform set_config('app.code', 'five', false); end $$", "select current_setting('app.code')"],
}

SHOWN = ["work_mem", "datestyle", "timezone", "bytea_output", "statement_timeout", "client_encoding", "extra_float_digits",
         "search_path", "default_transaction_isolation", "default_transaction_read_only", "role", "session_authorization",
         "application_name", "intervalstyle", "lc_monetary", "synchronous_commit", "app.x", "app.y", "app.z", "app.rolled",
         "app.code", "log_min_duration_statement", "client_min_messages", "temp_tablespaces"]
EVERYTHING = "select " + ", ".join(f"current_setting('{name}', true)" for name in SHOWN) + ", current_user"


@pytest.fixture
def database(cluster):
    for role in ("joe", "anne"):
        cluster.primary.query(f"do $$ begin create role {role}; exception when duplicate_object then null; end $$")
    name = cluster.create_database(SCHEMA)
    yield name
    cluster.drop_database(name)


def run(client, line):
    result = client.extended(line[1:], check=False) if line.startswith("*") else client.query(line, check=False)
    return [b for b in result.brief if b[0] not in "12nt"]


class Pair:
    """One client twice, through the proxy and on a connection of its own."""

    def __init__(self, proxy, cluster, program, **parameters):
        self.pooled, self.private = proxy.connect(**parameters), cluster.primary.connect(**parameters)
        self.program = list(program)
        assert self.pooled.parameters == self.private.parameters

    def same(self, line):
        got, expected = run(self.pooled, line), run(self.private, line)
        assert got == expected, line
        assert self.pooled.parameters == self.private.parameters, line
        return expected[-1]

    def turn(self):
        """The next statement, and what belongs to its transaction; after each everything that can be seen."""
        status = "Z T"
        while status != "Z I":
            assert self.program or status == "Z T", "the program ends in a transaction"
            line = self.program.pop(0)
            status = self.same(line)
            if status != "Z E":
                self.same(EVERYTHING)


def compare(proxy, cluster, database, programs, **parameters):
    """Client by client in turn, transaction by transaction."""
    parameters.setdefault("application_name", "app")
    pairs = [Pair(proxy, cluster, program, database=database, **parameters) for program in programs]
    while any(pair.program for pair in pairs):
        for pair in pairs:
            if pair.program:
                pair.turn()
    for pair in pairs:
        pair.pooled.close()
        pair.private.close()


STARTS = {
    "plain": {},
    "settings": {"TimeZone": "America/Lima", "options": "-c work_mem=8MB -c datestyle=german -c search_path=a,public -c app.x=start"},
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_settings_are_the_clients_own(pgweir, cluster, database, name, start):
    """On one backend, whatever the others do to it; and nobody keeps it."""
    proxy = pgweir(settings={"default_pool_size": 1, "workers": 1, "max_pinned": 1}).wait_for_replicas(database)
    program, other = PROGRAMS[name], PROGRAMS["outside" if name != "outside" else "code"]
    compare(proxy, cluster, database, [program, other[::-1] if name != "outside" else other, program], **STARTS[start])
    assert proxy.admin("show pins") == []


# --- the rules ---


@pytest.fixture
def narrow(pgweir, database):
    """One backend on each server: whatever one client leaves in it, the next one meets."""
    return pgweir(settings={"default_pool_size": 1, "workers": 1}).wait_for_replicas(database)


SETS_NAME = {
    "set": ["set app.x = 'secret'"],
    "set local": ["begin", "set local app.x = 'secret'", "commit"],
    "rolled back": ["begin", "set app.x = 'secret'", "rollback"],
    "set_config": ["select set_config('app.x', 'secret', false)"],
    "discarded": ["set app.x = 'secret'", "discard all"],
    "function in pg_proc": ["select names('secret')"],
}


@pytest.mark.parametrize("how", SETS_NAME)
def test_rule_e1_names_with_a_point_stay_behind(narrow, cluster, database, how):
    """Once set, such a name is '' for ever; another client must find none."""
    cluster.primary.query("create function names(text) returns text language sql as $$ select set_config('app.x', $1, false) $$",
                          database=database)
    narrow.wait_for_replicas(database)
    seen = "/* pgweir: route=primary */ select current_setting('app.x', true)"
    with narrow.connect(database=database) as one:
        for line in SETS_NAME[how]:
            one.query(line)
    with narrow.connect(database=database) as two:
        assert two.value(seen) is None


@pytest.mark.parametrize("sql", ["select sets('7MB', 'Asia/Tokyo')", "insert into audited values ('POSIX')", "call commits('9MB')",
                                 "do $$ begin perform set_config('work_mem', '6MB', false); end $$"])
def test_rule_e2_what_code_sets_is_its_clients(narrow, database, sql):
    """Nothing in the statement's text says what it sets."""
    seen = "/* pgweir: route=primary */ select current_setting('work_mem') || current_setting('lc_monetary')"
    with narrow.connect(database=database) as one, narrow.connect(database=database) as two:
        before = two.value(seen)
        one.query(sql)
        mine = one.value(seen)
        assert mine != before
        for _ in range(2):
            assert two.value(seen) == before
            assert one.value(seen) == mine
    assert narrow.admin("show pins") == []


def test_rule_c2_modes_of_a_transaction_are_no_settings_of_the_session(narrow, database):
    """They stand in the list of settings that is read behind a transaction, and may not be put before another one's query."""
    with narrow.connect(database=database, options="-c search_path=a,public") as one, narrow.connect(database=database) as two:
        one.query("set default_transaction_isolation = 'serializable'")
        one.query("set transaction isolation level repeatable read")
        one.extended("select set_config('standard_conforming_strings', 'off', false)")
        two.query("set work_mem to '1MB'")
        assert one.extended("select $1::int", ["x"], check=False).sqlstate == "22P02"
        assert one.extended("select $1::int", ["1"]).rows == [("1",)]


def test_rule_e2_code_is_suspected_while_facts_are_unproved(narrow, database):
    """Right after DDL the facts are those of before: of code that it has not touched they tell, of other code nobody
    knows anything."""
    seen = "/* pgweir: route=primary */ select concat(current_setting('work_mem'), ' ', current_setting('app.late', true))"
    locks = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
    sets = ("language plpgsql as $$ begin set work_mem = '9MB'; perform set_config('app.late', 'x', false);"
            " return 1; end $$")
    with narrow.connect(database=database) as one:
        one.query("create function late_sets() returns int " + sets)
        one.query("create function late_runs(s text) returns int language plpgsql as $$ begin execute s; return 1; end $$")
        one.query("create function late_changes() returns int language sql as 'select 1'")
    narrow.wait_for_replicas(database)
    with narrow.connect(database=database) as one, narrow.connect(database=database) as two:
        before = two.value(seen)
        for ddl, sql in (("create table late_a(i int)", "select late_sets()"),
                         ("create table late_b(i int)", "select late_runs('select pg_advisory_lock(7)')"),
                         ("create or replace function late_changes() returns int " + sets, "select late_changes()")):
            one.query(ddl)
            one.query(sql)
            for _ in range(3):
                assert two.value(seen) == before
                assert two.value(locks) == "0"


def test_rule_e5_a_path_before_pg_catalog_is_not_trusted(narrow, cluster, database):
    """upper() is PostgreSQL's own in the facts, and somebody else's in this session."""
    cluster.primary.query("create function a.upper(text) returns text language plpgsql as"
                          " $$ begin begin insert into audited values ('C'); exception when others then return 'lost'; end;"
                          " return 'kept'; end $$", database=database)
    narrow.wait_for_replicas(database)
    with narrow.connect(database=database) as client:
        client.query("set search_path = a, pg_catalog, public")
        assert client.value("select upper('x')") == "kept"


@pytest.mark.parametrize("sql", ["reset timezone", "set timezone to default", "reset all", "discard all"])
@pytest.mark.parametrize("protocol", ["query", "extended"])
def test_rule_e7_reset_leads_to_the_clients_own_start(narrow, database, sql, protocol):
    with narrow.connect(database=database, TimeZone="America/Lima") as client, narrow.connect(database=database) as other:
        client.query("set timezone = 'Asia/Tokyo'")
        assert other.value("show timezone") != "Asia/Tokyo"
        result = getattr(client, protocol)(sql)
        assert [b for b in result.brief if b[0] not in "12n"] == [
            "C " + {"d": "DISCARD ALL", "r": "RESET", "s": "SET"}[sql[0]], "S TimeZone=America/Lima", "Z I"]
        assert client.value("show timezone") == "America/Lima"


@pytest.mark.parametrize("sql", ["alter role walter in database {} set timezone = 'Asia/Tokyo'", "alter database {} set timezone = 'Asia/Tokyo'"])
@pytest.mark.parametrize("through", ["pgweir", "the server"])
def test_rule_e7_old_backends_serve_old_clients_only(pgweir, cluster, database, sql, through):
    """Settings of roles and databases are for sessions that begin later: who logs in behind the change has it, in the
    greeting too, on the primary and on a replica, also where backends from before are free; who was there before has not."""
    cluster.primary.query("do $$ begin create role walter login; exception when duplicate_object then null; end $$")
    cluster.settle()
    proxy = pgweir(accounts={"walter": ""}, settings={"default_pool_size": 4, "workers": 1}).wait_for_replicas(database)
    show, read = "show timezone", "/* pgweir: route=replica */ select timestamptz '2024-01-01 00:00+00' :: text"
    tokyo = ("Asia/Tokyo", "2024-01-01 09:00:00+09")
    login = {"database": database, "user": "walter"}
    with proxy.connect(**login) as old, proxy.connect(database=database) as other:
        before = old.value(show), old.value(read)
        assert before[0] == old.parameters["TimeZone"] and before[1] != tokyo[1]
        other.query("create table since()")
        proxy.wait_for_replicas(database)  # a load of facts lies between its login and the change
        (other if through == "pgweir" else cluster.primary).query(sql.format(database))
        if through == "the server":
            other.query("create table seen()")  # otherwise it is noticed a minute later
        cluster.settle()

        def is_new():
            with proxy.connect(**login) as client:
                told = client.parameters["TimeZone"]
                seen = client.value(show), client.value(read)
                # Whoever was greeted before the change was noticed may meet it in his session.
                assert told == before[0] or seen == tokyo
                return told == tokyo[0]

        wait_until(is_new, "new clients have the new setting")
        assert is_new()
        # Its backend is idle still; on the replica it need not have had one.
        assert old.value(show) == before[0]


def test_rule_d1_settings_read_the_constants(narrow, database):
    """One text, one backend, two meanings."""
    sql = "/* pgweir: route=primary */ select '2024-01-01 00:00'::timestamptz = '2024-01-01 00:00+09'::timestamptz"
    with narrow.connect(database=database) as one, narrow.connect(database=database) as two:
        one.query("set timezone = 'Asia/Tokyo'")
        two.query("set timezone = 'UTC'")
        for client in (one, two):
            client.extended(sql, statement="s")
        for _ in range(3):
            for client, expected in ((one, "t"), (two, "f")):
                client.send(bind("", "s"), execute(), sync())
                assert "D " + expected in client.brief_until_ready()
        two.query("begin")
        two.query("set local timezone = 'Asia/Tokyo'")
        assert two.extended(sql, statement="t").rows == [("t",)]
        two.query("commit")
        with narrow.connect(database=database, TimeZone="UTC") as three:
            assert three.extended(sql).rows == [("f",)]


def test_rule_c2_the_sessions_own_defaults_hold_behind_a_hand_over(narrow, database):
    """A default that arrives in the same transaction comes too late for it."""
    with narrow.connect(database=database) as one, narrow.connect(database=database) as other:
        one.query("set session characteristics as transaction read only, isolation level repeatable read")
        for protocol in ("query", "extended"):
            other.query("insert into a.t values ('other')")
            assert getattr(one, protocol)("insert into a.t values ('no')", check=False).sqlstate == "25006"
            other.query("insert into a.t values ('other')")
            assert one.value("/* pgweir: route=primary */ select current_setting('transaction_isolation')") == "repeatable read"


@pytest.mark.parametrize("sql", ["select 1/0", "select 1; select 1/0", "begin; select 1/0", "commit; select 1/0", "call commits('x')"])
def test_rule_c7_an_error_leaves_everybody_his_settings(narrow, database, sql):
    with narrow.connect(database=database) as one, narrow.connect(database=database) as two:
        one.query("set timezone = 'Asia/Tokyo'")
        two.query("set timezone = 'America/Lima'")
        for _ in range(2):
            for client, zone in ((one, "Asia/Tokyo"), (two, "America/Lima")):
                client.query(sql, check=False)
                client.query("rollback")
                assert client.value("/* pgweir: route=primary */ select current_setting('timezone')") == zone


def test_a_server_that_is_lost_behind_the_transaction_ends_its_client_only(narrow, cluster, database):
    """It is asked for the settings behind the client's ReadyForQuery.  What the session has become is not known then, so the
    client ends too, and is told why; nobody else does."""
    asks = f"from pg_stat_activity where datname = '{database}' and wait_event_type = 'Lock'"
    with narrow.connect(database=database) as one, narrow.connect(database=database) as other, \
            Connection.login(cluster.primary.port, database=database) as blocker:
        blocker.query("begin; lock table pg_catalog.pg_settings in access exclusive mode")
        one.query("set work_mem = '5MB'")
        wait_until(lambda: cluster.primary.query(f"select pid {asks}", database=database), "it is asked")
        cluster.primary.query(f"select pg_terminate_backend(pid) {asks}", database=database)
        assert [m.fields["C"] for m in one.read_to_end() if m.type == "E"] == ["57P01"]
        blocker.query("rollback")
        assert other.value("select 1") == "1"


# A setting of PostgreSQL's and one of pgweir's take the same steps: they must end alike.
STEPS = {
    "rolled back": ["begin", "SET b", "rollback"],
    "committed": ["begin", "SET b", "commit"],
    "local": ["begin", "LOCAL b", "SHOW", "commit"],
    "local, then rolled back": ["begin", "LOCAL b", "rollback"],
    "behind a write": ["begin", "insert into t values (1)", "SET b", "rollback"],
    "to a savepoint": ["begin", "SET b", "savepoint s", "SET c", "SHOW", "rollback to s", "SHOW", "commit"],
    "to a savepoint before all": ["begin", "savepoint s", "SET b", "rollback to s", "SHOW", "commit"],
    "to a savepoint, twice": ["begin", "savepoint s", "SET b", "rollback to s", "SET c", "rollback to s", "SHOW", "commit"],
    "to the outer one": ["begin", "savepoint s", "SET b", "savepoint r", "SET c", "rollback to s", "SHOW", "commit"],
    "of the same name": ["begin", "savepoint s", "SET b", "savepoint s", "SET c", "rollback to s", "SHOW", "release s", "rollback to s", "SHOW",
                         "commit"],
    "released": ["begin", "SET b", "savepoint s", "SET c", "release s", "SHOW", "commit"],
    "released, then rolled back": ["begin", "savepoint s", "SET b", "release s", "rollback"],
    "local in a savepoint": ["begin", "savepoint s", "LOCAL b", "SHOW", "rollback to s", "SHOW", "LOCAL c", "release s", "SHOW", "commit"],
    "behind an error": ["begin", "SET b", "savepoint s", "SET c", "select 1/0", "rollback to s", "SHOW", "commit"],
    "savepoints in one string": ["begin", "savepoint s; savepoint r", "SET b", "rollback to s; release s", "SHOW", "commit"],
    "chained": ["begin", "SET b", "LOCAL c", "commit and chain", "SHOW", "SET c", "rollback"],
    "chained after a statement": ["begin", "select 1", "SET b", "LOCAL c", "commit and chain", "SHOW", "SET c", "rollback"],
    "rolled back and chained": ["begin", "select 1", "SET b", "rollback and chain", "SHOW", "SET c", "commit"],
    "failed and chained": ["begin", "SET b", "select 1/0", "commit and chain", "SHOW", "rollback"],
}
VALUES = {"SET b": ("set work_mem = '3MB'", "set pgweir.replica_wait = '3s'"), "SET c": ("set work_mem = '5MB'", "set pgweir.replica_wait = '5s'"),
          "LOCAL b": ("set local work_mem = '3MB'", "set local pgweir.replica_wait = '3s'"),
          "LOCAL c": ("set local work_mem = '5MB'", "set local pgweir.replica_wait = '5s'"),
          "SHOW": ("show work_mem", "show pgweir.replica_wait")}
MEANS = {"4MB": "a", "3MB": "b", "5MB": "c", "10ms": "a", "3s": "b", "5s": "c"}


@pytest.mark.parametrize("name", STEPS)
def test_pgweirs_own_settings_follow_transactions_as_others_do(cluster, pgweir, name):
    database = cluster.create_database("create table t(i int)")
    proxy = pgweir(settings={"replica_wait": "10ms"}).wait_for_replicas(database)
    with proxy.connect(database=database) as client:

        def walk(which):
            shown = []
            for step in [*STEPS[name], "SHOW"]:
                sql = VALUES.get(step, (step, step))[which]
                rows = client.query(sql, check=False).rows
                if step == "SHOW":
                    shown.append(MEANS[rows[0][0]])
            return shown

        assert walk(1) == walk(0)


@pytest.mark.parametrize("before", [[], ["select 1"], ["insert into t values (1)"]])
def test_a_bad_setting_of_pgweirs_fails_the_transaction(cluster, pgweir, before):
    database = cluster.create_database("create table t(i int)")
    proxy = pgweir().wait_for_replicas(database)
    with proxy.connect(database=database) as client:
        client.query("begin")
        for sql in before:
            client.query(sql)
        refused = client.query("set pgweir.route = 'nowhere'", check=False)
        assert refused.sqlstate == "22023" and refused.status == "E"
        assert client.query("select 1", check=False).sqlstate == "25P02"
        assert client.query("commit").tags == ["ROLLBACK"]
        assert client.value("select count(*) from t") == "0"
