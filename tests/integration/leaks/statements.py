"""The kinds of statement that the leak test draws from, by name.

A kind is a function of a Draw (the client, its random numbers, what it is known to have made) that returns a *step*: a
text (one statement; the draw decides by which protocol it travels), or a list of messages:

    ["Q", sql]  ["P", name, sql]  ["B", portal, statement, values]  ["D", "S" or "P", name]  ["E", portal, rows]
    ["C", "S" or "P", name]  ["S"]  ["H"]  ["F", oid, values]  ["d", data]  ["c"]  ["f", reason]
    ["|", types]   wait for one of these messages before going on
    ["connect", {...}]  ["end", "terminate" or "drop" or "reset"]

Everything in a step is plain data, so that a program can be printed, cut down and run again."""
from . import world

KINDS = {}  # name: (function, weight, where)

# What is left out of programs because a difference is known, with the reason; a kind, a look, or a part of a kind.  Each is
# a rule of the design, told in ARCHITECTURE.md ("What a client may still observe").
MASKED = {
    "settings_source": "source and reset_val of pg_settings in a transaction that has begun, or on a pinned backend, that was not"
                       " logged in with the client's start-up packet",
    "current_value": "E3: currval() and lastval() say 55000 on another backend",
    "libraries": "settings of a library that somebody's code has loaded into the backend, in SHOW ALL",
    "read only on a replica": "C5: what has no proof is refused, or sees a standby, in a READ ONLY transaction on a replica",
}

# Settings that any user may change, with values to be had; the odd spellings are on purpose.
SETTINGS = {
    "work_mem": ["'1MB'", "'7MB'", "'7168kB'", "4096", "DEFAULT"],
    "DateStyle": ["'ISO, MDY'", "'SQL, DMY'", "German", "'Postgres, YMD'", "ISO, DMY", "DEFAULT"],
    "TimeZone": ["'Asia/Tokyo'", "'America/Lima'", "'Europe/Berlin'", "'+03'", "-7", "DEFAULT", "'utc'"],
    "IntervalStyle": ["iso_8601", "'sql_standard'", "postgres_verbose", "DEFAULT"],
    "bytea_output": ["escape", "hex", "DEFAULT"],
    "extra_float_digits": ["0", "3", "-5", "DEFAULT"],
    "search_path": ["{a}", "{b}, {a}", "{a}, sh", "''", "'{b}'", '"we ird", {a}', "pg_catalog, {b}", '"$user", public', "DEFAULT"],
    "application_name": ["'one'", "'it''s'", "''", "'" + "x" * 80 + "'", "DEFAULT", '"Quoted Name"', "'a b=c'"],
    "client_min_messages": ["notice", "warning", "error", "DEFAULT"],
    "standard_conforming_strings": ["on", "off", "DEFAULT"],
    "escape_string_warning": ["on", "off"],
    "backslash_quote": ["on", "off", "safe_encoding"],
    "transform_null_equals": ["on", "off", "DEFAULT"],
    "array_nulls": ["on", "off", "DEFAULT"],
    "statement_timeout": ["'1h'", "0", "3600000", "DEFAULT"],
    "lock_timeout": ["'30s'", "'29s'", "DEFAULT"],
    "idle_in_transaction_session_timeout": ["'1h'", "0", "DEFAULT"],
    "default_transaction_isolation": ["'serializable'", "'repeatable read'", "'read committed'", "DEFAULT"],
    "default_transaction_read_only": ["on", "off", "off", "DEFAULT"],
    "default_transaction_deferrable": ["off", "DEFAULT"],  # on waits for others' serializable transactions
    "transaction_isolation": ["'serializable'", "'repeatable read'", "'read committed'"],
    "transaction_read_only": ["on", "off"],
    "enable_seqscan": ["on", "off", "DEFAULT"],
    "plan_cache_mode": ["force_generic_plan", "force_custom_plan", "auto"],
    "row_security": ["on", "off", "DEFAULT"],
    "quote_all_identifiers": ["on", "off", "DEFAULT"],
    "check_function_bodies": ["on", "off", "DEFAULT"],
    "random_page_cost": ["1.5", "4", "DEFAULT"],
    "from_collapse_limit": ["1", "8", "DEFAULT"],
    "synchronous_commit": ["off", "on", "local", "DEFAULT"],
    "client_encoding": ["LATIN1", "'UTF8'", "'sql_ascii'", "DEFAULT"],
    "xmloption": ["document", "content"],
    "jit": ["on", "off", "DEFAULT"],
    "lo_compat_privileges": ["on", "off"],
    "default_statistics_target": ["50", "DEFAULT"],
    "temp_buffers": ["'9MB'", "DEFAULT"],
    "session_replication_role": ["replica", "origin", "DEFAULT"],
    "default_toast_compression": ["pglz", "DEFAULT"],
    "geqo_seed": ["0.25", "DEFAULT"],
    "tcp_user_timeout": ["0", "DEFAULT"],
}
STARTED = ["application_name", "TimeZone", "DateStyle", "client_encoding", "extra_float_digits", "IntervalStyle", "search_path", "work_mem",
           "statement_timeout", "enable_seqscan", "bytea_output", "default_transaction_isolation"]  # in start-up packets
CUSTOM = ["app.tenant", "app.user_id", "app.Mixed", "other.thing"]
CUSTOM_VALUES = ["one", "two", "", "it's", "a, b", "x y"]
ROLES = ["leak_a", "leak_b", '"leak C"', "none", "leak_stranger", "no_such_role", "'leak_a'"]
PREPARED = ["p1", "p2", '"P 3"']
CURSORS = ["k1", "k2"]
SAVEPOINTS = ["s1", "s2"]
CHANNELS = ["ch1", '"Ch 2"']
# Asked for at every look; what is NULL differs from what is ''.
LOOKED_AT = [name for name in SETTINGS if name not in ("xmloption",)] + [
    "role", "session_authorization", "is_superuser", "transaction_deferrable", "lc_messages", "app.tenant", "app.user_id",
    "app.mixed", "other.thing", "app.fixed", "app.clause", "app.trigger", "app.view", "app.dflt", "app.proc", "app.stable",
    "app.role", "app.db", "app.start", "seed.none", "in_hot_standby", "server_encoding"]


def kind(weight=2, where="any", name=None):
    """where: any; in (an open transaction), out (of one); heavy ones are drawn in few programs only."""
    def register(function):
        KINDS[name or function.__name__] = (function, weight, where)
        return function
    return register


class Draw:
    """The dice of one client."""

    def __init__(self, random, client):
        self.r, self.client = random, client
        self.a, self.b = world.schemas(client)
        self.in_transaction = False

    def pick(self, *choices):
        return self.r.choice(choices[0] if len(choices) == 1 else choices)

    def chance(self, share):
        return self.r.random() < share

    def setting(self):
        """A name and a value, as SET takes them."""
        name = self.pick([name for name in SETTINGS])
        values = [value for value in SETTINGS[name]]
        return name, self.pick(values).format(a=self.a, b=self.b)

    def custom(self):
        name = self.pick(CUSTOM)
        return name, "'" + self.pick(CUSTOM_VALUES).replace("'", "''") + "'"

    def any_setting(self):
        return self.custom() if self.chance(0.35) else self.setting()

    def config_call(self, local=None):
        """set_config(...) with literals."""
        name, value = self.any_setting()
        value = value if value.startswith("'") else "'" + value.strip('"').replace("DEFAULT", "off") + "'"
        local = self.chance(0.3) if local is None else local
        return f"set_config('{name}', {value}, {str(local).lower()})"

    def schema(self):
        return self.pick(self.a, self.a, self.b)

    def code(self):
        """SQL that PL code runs by EXECUTE, as a text without single quotes around it."""
        name, value = self.any_setting()
        return self.pick(f"set {name} = {value}", f"set local {name} = {value}", f"select {self.config_call()}",
                         f"set role {self.pick(ROLES)}", "reset all", f"reset {name}",
                         "discard plans", f"insert into {self.a}.t(n) values (7)",
                         f"select nextval('{self.a}.s')")

    def statement(self):
        """A statement that answers alike anywhere."""
        s = self.schema()
        return self.pick(f"select count(*) from {s}.t", "select d, iv, f, b, day from sh.facts where id < 3 order by id",
                         "select 1 as one, 'a\\\\b' as s", f"select who from {s}.marker", "select who from marker",
                         f"select n, note from {s}.t order by id limit 3", "select '01/02/2024'::date, '1 day 02:00'::interval",
                         f"insert into {s}.t(n, note) values (1, 'x')", f"select {self.a}.reads(5)",
                         "select current_user, session_user", "select current_setting('work_mem')", "select null = null",
                         f"select note from {self.a}.rls order by 1", f"update {s}.t set note = 'y' where n = 1",
                         "select current_setting('app.tenant', true) is null")


# --- settings ---


@kind(8)
def set_plain(g):
    name, value = g.setting()
    return f"set {g.pick('', '', 'session ')}{name} {g.pick('=', 'to')} {value}"


@kind(4)
def set_local(g):
    name, value = g.any_setting()
    return f"set local {name} = {value}"


@kind(4)
def set_custom(g):
    name, value = g.custom()
    return f"set {name} = {value}"


@kind(1)
def set_invalid(g):
    return g.pick("set work_mem = 'much'", "set DateStyle = 'Klingon'", "set TimeZone = 'Mars/Base'", "set enable_seqscan = 7",
                  "set search_path = ", "set no_such_setting = 1", "set work_mem = '1kB'", "set max_connections = 3",
                  "set lc_collate = 'x'", "set app = 1", "set app.a.b.c = 'deep'", "set \"app.x y\" = 'odd'", "show no_such",
                  "set transaction_isolation = 'odd'", "set default_transaction_isolation = ''", "reset no_such",
                  "select set_config('no_such', 'x', false)", "select set_config(null, 'x', false)", "set server_version = '1'",
                  "select set_config('work_mem', null, false)", "select current_setting('app.never')")


@kind(4)
def reset(g):
    return f"reset {g.pick([*SETTINGS, *CUSTOM])}"


@kind(1)
def reset_all(g):
    return "reset all"


@kind(4)
def set_config(g):
    return f"select {g.config_call()}"


@kind(1)
def set_config_many(g):
    return f"select {g.config_call()}, {g.config_call()} from generate_series(1, 2)"


@kind(1)
def set_config_from_rows(g):
    name, _ = g.custom()
    return f"select set_config('{name}', who, false) from {g.schema()}.marker"


@kind(1)
def set_config_hidden(g):
    """In a place where only the tree shows it."""
    call = g.config_call()
    return g.pick(f"with w as (select {call} as x) select x from w", f"select 1 where {call} is not null",
                  f"insert into {g.a}.t(note) values ({call})", f"select (select {call})", f"values ({call})",
                  f"select count(*) from sh.facts where id = 1 and {call} = 'one'", f"select 1 order by {call}",
                  f"select * from {call} as f(x)", f"select coalesce({call}, 'x') as c limit 1", f"select case when true then {call} end")


@kind(1)
def set_config_parameters(g):
    name, value = g.any_setting()
    return [["P", "", "select set_config($1, $2, $3::bool)"], ["B", "", "", [name, value.strip("'\""), g.pick("t", "f")]],
            ["E", "", 0], ["S"]]


@kind(3)
def set_role(g):
    return g.pick(f"set role {g.pick(ROLES)}", f"set role {g.pick(ROLES)}", f"set local role {g.pick(ROLES)}", "reset role")


@kind(2)
def set_session_authorization(g):
    who = g.pick("leak_a", "leak_b", "postgres", world.LOGIN, "default")
    return g.pick(f"set session authorization {who}", "reset session authorization", f"set local session authorization {who}")


@kind(2)
def set_transaction(g):
    return g.pick("set transaction isolation level serializable", "set transaction isolation level repeatable read",
                  "set transaction read only", "set transaction read write", "set transaction not deferrable",
                  "set transaction isolation level read committed, read only", "set local transaction_read_only = on")


@kind(2)
def set_session_characteristics(g):
    return "set session characteristics as transaction " + g.pick(
        "isolation level serializable", "isolation level read committed", "read only", "read write", "not deferrable",
        "isolation level repeatable read, read write", "read write, not deferrable")


@kind(2)
def set_special_forms(g):
    return g.pick("set time zone 'Asia/Kolkata'", "set time zone local", "set time zone default", "set names default", "set local time zone 3",
                  "set time zone interval '-08:00' hour to minute", "set names 'LATIN1'", "set names 'utf8'",
                  f"set schema '{g.b}'", "set xml option document", f"set local schema '{g.a}'",
                  "set client_encoding to 'iso-8859-1'", "set datestyle to postgres, dmy", "set work_mem to '1MB' ; ",
                  "/* first */ set -- then\n work_mem = '2MB'", "SET\nLOCAL\nwork_mem='2MB'", "set \"work_mem\" = '2MB'",
                  "set WORK_MEM = '2MB'", "set work_mem = 2048.0", "set geqo_seed = 1e-1", "set extra_float_digits = -0")


@kind(2)
def show(g):
    name = g.pick([*SETTINGS, "app.tenant", "app.user_id", "role", "session_authorization", "is_superuser", "app.db",
                   "transaction_deferrable", "server_version", "in_hot_standby", "max_connections"])
    return g.pick(f"show {name}", f"select current_setting('{name}')", f"select current_setting('{name}', true)")


@kind(1)
def show_special(g):
    return g.pick("show time zone", "show transaction isolation level", "show session authorization")


@kind(0.3)
def show_all(g):
    return "show all"


@kind(0.5)
def settings_view(g):
    return settings_source(g).replace(", reset_val, source", "")


@kind(0.5)
def settings_source(g):
    return ("select name, setting, unit, min_val, boot_val, reset_val, source from pg_settings where name in ('work_mem', 'DateStyle',"
            " 'TimeZone', 'search_path', 'application_name', 'client_encoding', 'enable_seqscan', 'role', 'lock_timeout') order by 1")


@kind(1, "out")
def discard(g):
    return "discard " + g.pick("all", "all", "plans", "sequences", "temp", "temporary")


@kind(0.5, "in")
def discard_in_transaction(g):
    return "discard " + g.pick("all", "plans", "sequences", "temp")


# --- code that sets things ---


@kind(2)
def do_sets(g):
    name, value = g.any_setting()
    code = g.pick(f"set {name} = {value};", f"perform {g.config_call()};", f"execute $x${g.code()}$x$;", "perform 1;",
                  f"set local {name} = {value};", f"reset {name};", f"if true then perform {g.config_call()}; end if;",
                  f"for i in 1..2 loop perform set_config('app.user_id', i::text, false); end loop;")
    return f"do $do$ begin {code} end $do$"


@kind(1)
def do_sets_and_fails(g):
    name, value = g.any_setting()
    return f"do $do$ begin set {name} = {value}; raise exception 'failed in DO'; end $do$"


@kind(1)
def do_sets_and_catches(g):
    name, value = g.any_setting()
    other, second = g.any_setting()
    return (f"do $do$ begin begin set {name} = {value}; perform 1/0; exception when division_by_zero then "
            f"set {other} = {second}; end; end $do$")


@kind(0.5, "out")
def do_commits(g):
    name, value = g.any_setting()
    return f"do $do$ begin set {name} = {value}; commit; perform 1/{g.pick('1', '0')}; end $do$"


@kind(2)
def function_sets(g):
    name, value = g.custom() if g.chance(0.5) else g.setting()
    value = value if value.startswith("'") else "'off'"
    return f"select {g.a}.{g.pick('set_it', 'set_in', 'set_sql')}('{name}', {value})"


@kind(1)
def function_sets_fixed(g):
    return f"select {g.a}.set_fixed('{g.pick('one', 'two')}')"


@kind(1)
def function_runs(g):
    return f"select {g.a}.{g.pick('run', 'run', 'run_undone', 'run_and_fail')}($x${g.code()}$x$)"


@kind(0.7)
def function_with_clause(g):
    return f"select {g.a}.with_clause()"


@kind(1)
def function_stable_setter(g):
    return f"select {g.a}.stable_setter('{g.pick('one', 'two')}')"


@kind(1, "out")
def procedure_commits(g):
    name, _ = g.custom()
    return f"call {g.a}.{g.pick('commits', 'rolls')}('{name}', '{g.pick('v', 'w')}')"


@kind(0.3, "in")
def procedure_commits_in_transaction(g):
    return f"call {g.a}.commits('app.tenant', 'v')"


@kind(1)
def trigger_sets(g):
    return f"insert into {g.a}.watched values (1, '{g.pick('one', 'two')}')"


@kind(1)
def view_sets(g):
    return f"select x from {g.a}.setting_view"


@kind(1)
def default_sets(g):
    return f"insert into {g.a}.dflt(n) values (1) returning x"


@kind(0.3)
def function_replaced(g):
    """What was a read becomes a setter, and back."""
    body = g.pick("select count(*) from {s}.t where n < $1", "select count(set_config('app.user_id', 'replaced', false)) where $1 > 0")
    return f"create or replace function {g.a}.reads(int) returns bigint language sql as '{body.format(s=g.a).replace(chr(39), chr(39) * 2)}'"


@kind(0.7)
def fast_path_sets(g):
    """FunctionCall of set_config."""
    name, value = g.custom()
    return [["F", 2078, [name, value.strip("'"), "f"]]]


# --- reads, which may go to a replica ---


@kind(5)
def read(g):
    return g.pick("", "", "", "/* pgweir: route=replica */ ") + g.pick(
        "select d, iv, f, b, day from sh.facts where id < 4 order by id", "select count(*) from sh.facts",
        f"select count(*), sum(n) from {g.schema()}.t", "select who from marker", f"select {g.a}.reads(3)", "select current_user",
        f"select note from {g.a}.rls order by 1", f"select x from {g.a}.asking_view", "select d::text, iv::text from sh.facts where id = 7",
        "select 'a\\\\b', E'a\\\\b', 'it''s'", "select '{1,NULL}'::int[]", "select f from sh.facts order by f desc limit 2",
        "select count(*) from sh.facts where null = null", "select to_char(d, 'TZ HH24') from sh.facts where id = 2",
        "select '01/02/2024'::date", "select 'ü'::text", "select b from sh.facts where id = 2", "select no_such_column from sh.facts",
        "select * from no_such_table", "select 1/0", "select length(note) from t", "select '2024-05-06 07:08'::timestamptz",
        "select current_schema(), current_schemas(false)", "select count(*) from t", "select pg_get_viewdef('pg_tables'::regclass) is not null",
        "select interval '1 day 2 hours 3 minutes'", "select quote_ident('plain')", "select 3.0::float8 / 7")


@kind(1)
def read_by_statement(g):
    """A protocol-level named statement that lives on: prepared, described, used again."""
    name = g.pick("r1", "r2")
    return g.pick([["C", "S", name], ["P", name, g.statement()], ["D", "S", name], ["S"]],
                  [["B", "", name, []], ["D", "P", ""], ["E", "", 0], ["S"]], [["B", "", name, []], ["E", "", 0], ["S"]],
                  [["D", "S", name], ["S"]])


@kind(1)
def locked_read(g):
    return g.pick(f"select n from {g.a}.t for update", f"select n from {g.a}.t order by id for share", f"lock table {g.a}.t",
                  f"lock table {g.a}.t in access share mode")


@kind(0.7)
def explain(g):
    return f"explain (costs off) {g.pick('select count(*) from sh.facts where id = 3', 'select * from sh.facts order by id')}"


# --- writes ---


@kind(4)
def write(g):
    s = g.schema()
    return g.pick(f"insert into {s}.t(n, note) values ({g.r.randrange(9)}, 'x') returning id", f"update {s}.t set n = n + 1",
                  f"delete from {s}.t where n > 5", f"insert into {s}.u values ({g.r.randrange(99)})", "insert into t(n) values (3)",
                  f"insert into {s}.t(n) select g from generate_series(1, 3) g", f"with d as (delete from {s}.t returning n) select count(*) from d",
                  f"merge into {s}.t using (select 1 as k) x on n = k when matched then update set note = 'm' when not matched then insert (n) values (k)",
                  f"insert into {s}.t(note) values (current_setting('app.tenant', true)) returning note",
                  f"insert into {s}.t(note) values (current_user) returning note")


@kind(0.7)
def constraints(g):
    return g.pick("set constraints all deferred", "set constraints all immediate", f"set constraints {g.a}.u_once immediate",
                  f"insert into {g.a}.u values (1), (1)")


@kind(0.5, "out")
def vacuum(g):
    return g.pick(f"vacuum {g.a}.t", f"analyze {g.b}.t", f"vacuum (analyze) {g.b}.u")


@kind(0.3, "in")
def vacuum_in_transaction(g):
    return f"vacuum {g.a}.t"


@kind(0.5)
def ddl(g):
    s, table = g.schema(), g.pick(world.SCRATCH)
    return g.pick(f"create table {s}.{table}(i int, w text default current_setting('app.tenant', true))", f"drop table if exists {s}.{table}",
                  f"create table if not exists {s}.{table}(i int)", f"create table {table}(i int)", f"drop table {table}",
                  f"create or replace view {s}.asking_view as select current_setting('app.tenant', true) as x",
                  f"comment on table {s}.t is 'c'")


# --- transactions ---


@kind(7, "out")
def begin(g):
    return g.pick("begin", "begin", "BEGIN WORK", "start transaction", "begin isolation level serializable", "begin read write",
                  "begin isolation level repeatable read", "start transaction read only", "begin transaction isolation level read committed",
                  "begin isolation level serializable, read only", "begin;", "begin not deferrable")


@kind(3, "out")
def begin_read_only(g):
    return g.pick("begin read only", "begin isolation level repeatable read, read only", "begin transaction read only isolation level read committed")


@kind(0.7, "in")
def begin_again(g):
    return "begin"


@kind(10, "in")
def finish(g):
    return g.pick("commit", "commit", "end", "commit work", "rollback", "rollback", "abort", "commit;")


@kind(1, "in")
def chain(g):
    return g.pick("commit and chain", "rollback and chain", "commit and no chain")


@kind(0.7, "out")
def finish_outside(g):
    return g.pick("commit", "rollback", "savepoint s1", "release s1", "rollback to s1", "commit and chain", "end")


@kind(6, "in")
def savepoint(g):
    name = g.pick(SAVEPOINTS)
    return g.pick(f"savepoint {name}", f"savepoint {name}", f"rollback to {name}", f"rollback to savepoint {name}", f"release {name}")


@kind(2)
def fails(g):
    return g.pick("select 1/0", "selec 1", "select * from nowhere", "select 'x'::int", f"insert into {g.a}.t(id) values (1), (1)",
                  f"insert into {g.a}.marker(who) values (1, 2)", "select nofunc()", "select 1 +", "select $1")


@kind(0.7, "heavy in")
def two_phase(g):
    return f"prepare transaction 'leak_@_{g.client}'"


@kind(0.5, "heavy out")
def two_phase_end(g):
    return g.pick(f"commit prepared 'leak_@_{g.client}'", f"rollback prepared 'leak_@_{g.client}'")


@kind(0.5)
def snapshot(g):
    return g.pick("select length(pg_export_snapshot()) > 3 as exported", "set transaction snapshot 'nonsense'")


# --- statements of SQL and of the protocol ---


@kind(3)
def prepare(g):
    name, s = g.pick(PREPARED), g.schema()
    return f"prepare {name}" + g.pick(f" as {g.statement()}", f"(int) as select $1 + 1, '{s}'", f"(int, text) as insert into {s}.t(n, note) values ($1, $2) returning n",
                                      "(text) as select set_config('app.user_id', $1, false)", f" as {g.statement()}", " as select $1::int")


@kind(4)
def execute(g):
    name = g.pick(PREPARED)
    return g.pick(f"execute {name}", f"execute {name}(7)", f"execute {name}(3, 'z')", f"execute {name}('one')")


@kind(1.5)
def deallocate(g):
    return "deallocate " + g.pick(*PREPARED, "prepare p1", "all", "r1", "prepare all")


@kind(0.5)
def execute_in_other(g):
    name = g.pick(PREPARED)
    return g.pick(f"explain (costs off) execute {name}", f"create temp table made_by_execute as execute {name}" if g.chance(0.2) else f"execute {name}")


@kind(1)
def mixed_names(g):
    """SQL's statement by the protocol and the other way round."""
    return g.pick([["B", "", "p1", []], ["E", "", 0], ["S"]], [["D", "S", "p1"], ["S"]], [["C", "S", "p1"], ["S"]], [["Q", "execute r1"]],
                  [["P", "p1", "select 'by the protocol'"], ["S"]], [["B", "", "P 3", []], ["D", "P", ""], ["E", "", 0], ["S"]])


@kind(1)
def unnamed_kept(g):
    """Parse now, Bind in a later step, if nothing came between."""
    return g.pick([["P", "", g.statement()], ["D", "S", ""], ["S"]], [["B", "", "", []], ["D", "P", ""], ["E", "", 0], ["S"]])


@kind(1)
def parse_fails(g):
    name = g.pick("r1", "r3", "")
    return [["P", name, g.pick("selec 1", "select nofunc()", "select 1; select 2", "set no_such = 1")], ["B", "", name, []], ["E", "", 0], ["S"]]


@kind(0.5)
def parameters_bad(g):
    return g.pick([["P", "", "select $1::int"], ["B", "", "", ["x"]], ["E", "", 0], ["S"]], [["B", "", "nowhere", []], ["S"]],
                  [["P", "", "select $1::int"], ["B", "", "", []], ["E", "", 0], ["S"]], [["E", "nowhere", 0], ["S"]],
                  [["D", "P", "nowhere"], ["S"]], [["D", "S", "nowhere"], ["S"]])


@kind(2)
def pipeline(g):
    """Several statements before one Sync; an error drops the rest and undoes all of it."""
    messages = []
    for _ in range(g.r.randrange(2, 6)):
        sql = g.pick(g.statement(), "set {} = {}".format(*g.any_setting()), f"select {g.config_call()}", "select current_setting('work_mem')",
                     "show datestyle", "select 1/0" if g.chance(0.3) else "select 2", "reset all" if g.chance(0.2) else "show timezone",
                     "set local {} = {}".format(*g.any_setting()), "discard all" if g.chance(0.2) else "select d from sh.facts where id = 1")
        messages += [["P", "", sql], ["B", "", "", []], *([["D", "P", ""]] if g.chance(0.6) else []), ["E", "", 0]]
    return [*messages, ["S"]]


@kind(2)
def pipeline_of_many(g):
    """Several Syncs and simple queries in one write."""
    messages = []
    for _ in range(g.r.randrange(2, 5)):
        sql = g.pick(g.statement(), "set {} = {}".format(*g.any_setting()), "show work_mem", "select 1/0", f"select {g.config_call()}",
                     "select iv, d from sh.facts where id = 2")
        messages += g.pick([["Q", sql]], [["P", "", sql], ["B", "", "", []], ["D", "P", ""], ["E", "", 0], ["S"]],
                           [["P", "", sql], ["B", "", "", []], ["E", "", 0], ["S"], ["S"]])
    return messages


@kind(1, "out")
def pipeline_transaction(g):
    """BEGIN to COMMIT in one write."""
    inner = [g.pick(g.statement(), "set {} = {}".format(*g.any_setting()), "set local {} = {}".format(*g.any_setting()),
                    "savepoint s1", "select 1/0" if g.chance(0.3) else "show work_mem") for _ in range(g.r.randrange(1, 4))]
    end = g.pick("commit", "rollback")
    if g.chance(0.5):
        return [["Q", sql] for sql in ["begin", *inner, end]]
    messages = []
    for sql in ["begin", *inner, end]:
        messages += [["P", "", sql], ["B", "", "", []], ["E", "", 0], *([["S"]] if g.chance(0.3) else [])]
    return [*messages, ["S"], ["Q", "rollback"]]


@kind(1)
def flushed(g):
    """Answers asked for before the Sync."""
    sql = g.pick("set {} = {}".format(*g.any_setting()), g.statement())
    return [["P", "", sql], ["B", "", "", []], ["H"], ["|", "2E"], ["E", "", 0], ["H"], ["|", "CDIE"], ["S"]]


@kind(1.5, "out")
def several_statements(g):
    """One simple query of several."""
    parts = [g.pick("set {} = {}".format(*g.any_setting()), g.statement(), f"select {g.config_call()}", "show work_mem",
                    "set local {} = {}".format(*g.any_setting()), "select 1/0" if g.chance(0.3) else reset(g),
                    "begin; set local work_mem = '3MB'; show work_mem; commit", "begin; set work_mem = '5MB'; rollback",
                    "prepare p1 as select 'of several'", "savepoint s1" if g.chance(0.1) else "select 3")
             for _ in range(g.r.randrange(2, 5))]
    return [["Q", "; ".join(parts)]]


@kind(0.7, "out")
def several_with_begin(g):
    name, value = g.any_setting()
    return [["Q", g.pick(f"begin; set {name} = {value}; select 1", f"set {name} = {value}; begin; select 2", f"begin; set local {name} = {value}; select 1/0",
                         f"select 1; begin; set {name} = {value}")]]


@kind(0.7)
def nothing(g):
    return g.pick([["Q", ""]], [["Q", ";"]], [["Q", "-- nothing"]], [["P", "", ""], ["B", "", "", []], ["D", "P", ""], ["E", "", 0], ["S"]], [["S"]],
                  [["C", "P", ""], ["S"]], [["Q", " ; ; "]])


# --- cursors and portals ---


@kind(2, "in")
def declare(g):
    name, options = g.pick(CURSORS), g.pick("", "", "scroll ", "no scroll ", "binary ", "insensitive ")
    return f"declare {name} {options}cursor for select id, day from sh.facts order by id"


@kind(0.5, "heavy any")
def declare_hold(g):
    return "declare h1 cursor with hold for select id, f from sh.facts order by id"


@kind(2, "in")
def fetch(g):
    name = g.pick(CURSORS)
    return g.pick(f"fetch 2 from {name}", f"fetch {name}", f"fetch backward 1 from {name}", f"move 3 in {name}", f"close {name}", f"fetch all in {name}",
                  "close all", f"fetch absolute 2 from {name}")


@kind(0.7, "heavy any")
def fetch_hold(g):
    return g.pick("fetch 2 from h1", "close h1", "fetch h1", "close all", "move h1")


@kind(1, "in")
def portal(g):
    return g.pick([["P", "", "select id, f from sh.facts order by id"], ["B", "w1", "", []], ["E", "w1", 2], ["S"]], [["E", "w1", 3], ["S"]],
                  [["D", "P", "w1"], ["E", "w1", 1], ["S"]], [["C", "P", "w1"], ["S"]], [["D", "P", "k1"], ["S"]], [["E", "k1", 2], ["S"]])


# --- what has to pin ---


@kind(1.5, "heavy any")
def temp_table(g):
    return g.pick("create temp table tt(i int, note text)", "create temp table tt(i int) on commit drop", "create temp table if not exists tt(i int)",
                  "create temp table marker(who text)", "create temp sequence ts", "create temp view tv as select 1 as x",
                  "create temp table tt on commit delete rows as select 1 as i", "select 5 as i into temp tt", "drop table tt", "drop table if exists tt, pg_temp.marker",
                  "create local temporary table t(n int, note text)", "create table pg_temp.tt(i int)")


@kind(1, "heavy any")
def temp_use(g):
    return g.pick("insert into tt values (1)", "select count(*) from tt", "select who from marker", "select count(*) from t", "select nextval('ts')",
                  "insert into marker values ('temp')", "select * from tv", "drop table pg_temp.marker", "insert into t values (1)")


@kind(1, "heavy any")
def temp_by_code(g):
    return g.pick(f"select {g.a}.run('create temp table tt(i int)')", "do $$ begin create temp table if not exists tt(i int); end $$",
                  f"select {g.a}.run_undone('create temp table tt(i int)')", f"select {g.a}.run('drop table if exists tt')")


@kind(1, "heavy any")
def advisory(g):
    key = f"{g.client + 1}, {g.r.randrange(3)}"
    return "select " + g.pick(f"pg_advisory_lock({key})", f"pg_try_advisory_lock({key})", f"pg_advisory_unlock({key})", f"pg_advisory_lock_shared({key})",
                              f"pg_advisory_unlock_shared({key})", "pg_advisory_unlock_all()", f"pg_advisory_lock({g.client * 1000 + 7})",
                              f"pg_advisory_unlock({g.client * 1000 + 7})")


@kind(1)
def advisory_of_transaction(g):
    return f"select pg_advisory_xact_lock({g.client + 1}, {g.r.randrange(3)})"


@kind(0.5, "heavy any")
def advisory_by_code(g):
    return g.pick(f"select {g.a}.run('select pg_advisory_lock({g.client + 1}, 1)')", f"do $$ begin perform pg_advisory_lock({g.client + 1}, 2); end $$")


@kind(2)
def next_value(g):
    return g.pick(f"select nextval('{g.schema()}.s')", f"select setval('{g.schema()}.s', 40)", f"select nextval('{g.a}.t_id_seq')",
                  f"select setval('{g.a}.s', 50, false)")


@kind(1, "heavy any")
def current_value(g):
    return g.pick(f"select currval('{g.schema()}.s')", "select lastval()", f"insert into {g.a}.t(n) values (lastval()) returning n",
                  f"select currval('{g.a}.t_id_seq')")


@kind(1, "heavy any")
def listen(g):
    return g.pick("listen ", "listen ", "unlisten ") + g.pick(CHANNELS)


@kind(0.5, "heavy any")
def unlisten_all(g):
    return "unlisten *"


@kind(1)
def notify(g):
    """Each client's payloads go to its own channel alone: others would hear them at times that nobody can compare."""
    return g.pick(f"notify own_{g.client}, 'hello'", f"select pg_notify('own_{g.client}', 'by function')", f"notify own_{g.client}")


@kind(0.7, "heavy any")
def listen_own(g):
    return f"{g.pick('listen', 'listen', 'unlisten')} own_{g.client}"


@kind(0.5, "heavy any")
def load(g):
    return g.pick("load 'plpgsql'", "load 'no_such_library'", "load 'auto_explain'")


@kind(0.7, "heavy any")
def seed(g):
    return g.pick("select setseed(0.5), random()", "select setseed(0.25), random(), random()")


# --- COPY, large objects, notices, row security ---


@kind(1)
def copy_out(g):
    return [["Q", g.pick("copy (select id, d, f, iv from sh.facts where id < 4 order by id) to stdout", f"copy {g.a}.marker to stdout with (format csv, header)",
                         "copy marker to stdout")]]


@kind(1)
def copy_in(g):
    s = g.schema()
    end = g.pick([["d", "1\tone\n2\ttwo\n"], ["c"]], [["d", "1\tone\n"], ["f", "no more"]], [["d", "x\tbad\n"], ["c"]], [["c"]])
    return [["Q", f"copy {s}.t(n, note) from stdin"], ["|", "GE"], *end]


@kind(0.5)
def copy_in_extended(g):
    return [["P", "", f"copy {g.a}.t(n) from stdin"], ["B", "", "", []], ["E", "", 0], ["H"], ["|", "GE"], ["d", "5\n"], ["c"], ["S"]]


@kind(0.7, "heavy any")
def large_object(g):
    oid = world.large_object(g.client)
    return g.pick(f"select lo_create({oid})", f"select lo_unlink({oid})", f"select lo_put({oid}, 0, 'abc')", f"select lo_get({oid})",
                  f"select lo_open({oid}, 393216)", "select lowrite(0, 'xyz')", "select loread(0, 10)", f"select lo_from_bytea({oid}, 'q')")


@kind(1)
def notices(g):
    return g.pick(f"select {g.a}.says('hello')", "drop table if exists never_made", f"create table if not exists {g.a}.t(i int)",
                  "do $$ begin raise notice 'from DO'; raise debug 'quiet'; end $$", "do $$ begin raise info 'always'; end $$")


@kind(1)
def own_error(g):
    return g.pick(f"select {g.a}.run_and_fail('select 1')", "do $$ begin raise exception 'x' using errcode = '22012', hint = 'h'; end $$",
                  "do $$ begin raise sqlstate '40001'; end $$", "do $$ begin assert false, 'asserted'; end $$")


@kind(1)
def row_security(g):
    return g.pick(f"select note from {g.a}.rls order by note", f"insert into {g.a}.rls values ('one', 'z') returning note",
                  f"select count(*) from {g.a}.rls")


# --- coming and going ---


@kind(1.2)
def reconnect(g):
    """The end of one session, in some way, and the start of another."""
    return [["end", g.pick("terminate", "drop", "reset")], ["connect", start_up(g)]]


@kind(0.6)
def vanish_in_the_middle(g):
    """Gone before the answer was read.  Whether its statement has been committed nobody can know: so nothing is."""
    sql = g.pick(f"begin; {g.statement()}", "set {} = {}".format(*g.any_setting()), f"begin; insert into {g.a}.t(n) values (100)",
                 "set role leak_a; begin; select 1/0", f"select pg_advisory_xact_lock({g.client + 1}, 9)", "begin; set app.tenant = 'gone'")
    return [["lost", [["Q", sql]], g.pick("drop", "reset")], ["connect", start_up(g)]]


def start_up(g):
    """Parameters of the start-up packet."""
    options = {"user": g.pick("postgres", "postgres", world.LOGIN), "application_name": g.pick("", "app one", "app two", "psql")}
    words = [f"-c search_path={g.pick(g.a, g.a + ',' + g.b, 'pg_catalog')}"] if g.chance(0.4) else []
    if g.chance(0.3):
        words.append(g.pick("-c work_mem=6MB", "-c datestyle=German", "-c statement_timeout=3600s", "--enable_seqscan=off", "-c app.start=packet", "-c app.tenant=one",
                            "-c default_transaction_isolation=serializable", "-c role=leak_a", "-c bytea_output=escape"))
    if words:
        options["options"] = " ".join(words)
    for name, values in (("TimeZone", ["Asia/Tokyo", "America/Lima"]), ("DateStyle", ["SQL, DMY"]), ("client_encoding", ["LATIN1", "UTF8"]),
                         ("extra_float_digits", ["3", "2"]), ("IntervalStyle", ["iso_8601"])):
        if g.chance(0.15):
            options[name] = g.pick(values)
    return options


# --- looking ---

LOOKS = {
    "settings": "select n, current_setting(n, true) from unnest('{" + ",".join(LOOKED_AT) + "}'::text[]) n",
    "users": "select current_user, session_user",
    "statements": "select name, statement, parameter_types::text, from_sql from pg_prepared_statements order by name",
    "cursors": "select name, statement, is_holdable, is_binary, is_scrollable from pg_cursors order by name",
    "locks": "select locktype, mode, classid, objid, objsubid, granted from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() order by 1, 2, 3, 4, 5",
    "temp": "select relname, relkind from pg_class where relnamespace = pg_my_temp_schema() order by 1",
    "channels": "select pg_listening_channels() order by 1",
    "paths": "select current_schemas(false), to_regclass('marker')::text, to_regclass('t')::text, to_regclass('facts')::text, to_regclass('scratch1')::text",
    "marker": "select who from marker",
}
