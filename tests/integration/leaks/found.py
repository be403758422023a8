"""Programs of the leak test that once showed a difference, cut down; each must show none."""

LOOK = [["Q", "select n, current_setting(n, true) from unnest('{application_name,search_path,DateStyle,TimeZone,work_mem,role,app.clause,"
        "app.tenant}'::text[]) n"]]
START = {"user": "postgres", "application_name": "psql", "options": "-c search_path=c1a -c datestyle=German -c work_mem=6MB",
         "TimeZone": "Asia/Tokyo"}
WHERE_FROM = [["Q", "select name, setting, reset_val, source from pg_settings where name in ('work_mem', 'DateStyle', 'application_name',"
               " 'search_path', 'enable_seqscan') order by 1"]]


def extended(sql, *, name="", describe=False):
    return [["P", name, sql], ["B", "", name, []], *([["D", "P", ""]] if describe else []), ["E", "", 0], ["S"]]


def query(sql):
    return [["Q", sql]]


def started(*steps):
    """Another client's settings are on the backend before this one's."""
    return [[(2, [["connect", {"user": "postgres", "application_name": "other"}]])], [(2, query("set app.tenant = 'two'"))],
            [(1, [["connect", START]])], *([(1, step)] for step in steps)]


FOUND = {
    "E1: SET of a function's definition, the second of two": [[(6, query("select c6a.with_clause()"))], [(3, LOOK)], [(6, LOOK)]],
    "E7: RESET behind a Close": started([["C", "S", "x1"], *extended("reset all", name="x1")], LOOK),
    "E7: RESET in a pipeline": started([*extended("select 1")[:-1], *extended("reset all")[:-1], *extended("show datestyle")], LOOK),
    "E7: RESET in code": started(query("do $$ begin set work_mem = '9MB'; execute 'reset all'; end $$"), LOOK),
    "E7: RESET in code, in a transaction": started(query("begin"), query("select 1"), query("select c1a.run('reset all')"), LOOK,
                                                    query("commit"), LOOK),
    "E7: RESET in code, taken back": started(query("begin"), query("select 1"), query("set work_mem = '9MB'"), query("savepoint s1"),
                                              extended("select c1a.run('reset work_mem')"), LOOK, query("rollback to s1"), LOOK,
                                              query("commit"), LOOK),
    "E7: RESET among others": started(query("set datestyle = iso; reset datestyle; show datestyle; select 1"), LOOK),
    "E7: RESET in its own part": started([["P", "", "set datestyle = default"], ["B", "", "", []], ["H"], ["|", "2E"], ["E", "", 0], ["H"],
                                          ["|", "CDIE"], ["S"]], LOOK),
    "E7: DISCARD ALL before an error": started([*extended("discard all")[:-1], *extended("select 1/0")], LOOK),
    "E7: DISCARD ALL of a pinned client": started(query("create temp table tt(i int)"), query("set datestyle = iso"), query("discard all"), LOOK),
    "E7: RESET SESSION AUTHORIZATION is RESET ROLE": [[(1, [["connect", {"user": "postgres", "options": "-c role=leak_a"}]])],
                                                      [(1, extended("reset session authorization"))], [(1, LOOK)]],
    "E7: set_config() of NULL": started(query("select set_config('work_mem', null, false)"), LOOK),
    "E7: SET LOCAL TO DEFAULT outside of a transaction warns": started(query("set local datestyle = default")),
    "E7: where settings come from": started(WHERE_FROM, query("set enable_seqscan = off"), WHERE_FROM, query("reset all"), WHERE_FROM),
    "search_path under quote_all_identifiers": [[(1, [["connect", START]])], [(1, query("set quote_all_identifiers = on"))],
                                                [(2, query("set work_mem = '1MB'"))], [(1, LOOK)], [(1, query("show search_path"))]],
    "A2: names in errors": [[(5, [["C", "S", "x1"], *extended("select $1", name="x1")])],
                            [(5, [["P", "x2", "select $1"], ["S"]])], [(5, [["B", "", "x2", []], ["S"]])]],
    "A2: pg_prepared_statements by a named statement": [
        [(5, [["C", "S", "x1"], *extended("select name, statement, from_sql from pg_prepared_statements order by 1", name="x1")])],
        [(5, query("select name, statement, from_sql from pg_prepared_statements order by 1"))],
        [(5, [["C", "S", "x1"], ["S"]])], [(5, query("select name, statement, from_sql from pg_prepared_statements order by 1"))]],
    "a failed transaction has failed": [
        [(5, query("begin isolation level repeatable read, read only"))], [(5, query("select count(*) from sh.facts"))],
        [(5, query("release nothing"))], [(9, query("insert into c9a.t(n) values (1)"))], [(5, query("select count(*) from sh.facts"))],
        [(5, query("rollback"))]],
    "SET in a READ ONLY transaction": [
        [(5, query("begin isolation level repeatable read, read only"))], [(5, query("select count(*) from sh.facts"))],
        [(5, query("set datestyle = sql"))], [(5, query("select set_config('app.tenant', 'x', false)"))],
        [(5, query("set local timezone = 'Asia/Tokyo'"))], [(5, LOOK)], [(5, query("reset datestyle"))], [(5, query("commit"))], [(5, LOOK)]],
    "C3: an isolation that is none": [[(5, query("begin"))], [(5, query("set transaction_isolation = 'odd'"))], [(5, query("rollback"))]],
    "C3: a Parse in a failed transaction": [
        [(5, [["P", "r1", "select 1"], ["S"]])], [(5, query("begin"))], [(5, query("select 1/0"))], [(5, [["P", "r1", "selec 1"], ["S"]])],
        [(5, query("rollback"))]],
    "a name that PREPARE made among others is taken": [
        [(8, query("select 3; prepare p1 as select 'of several'; select 4"))], [(8, [["P", "p1", "select 'by the protocol'"], ["S"]])],
        [(8, query("execute p1"))], [(8, query("deallocate p1"))], [(8, [["P", "p1", "select 'by the protocol'"], ["S"]])],
        [(8, [["B", "", "p1", []], ["E", "", 0], ["S"]])], [(8, query("execute p1"))]],
    "a name of Parse on a backend that only knows its names": [
        [(11, query("select 3; prepare p1 as select 'of several'; select 4"))], [(11, [["C", "S", "x1"], *extended('execute "P 3"(7)', name="x1")])],
        [(11, [["C", "S", "x1"], *extended("select 1", name="x1")])], [(11, [["C", "S", "x1"], *extended("select 2", name="x1")])],
        [(11, [["P", "x1", "select 3"], ["S"]])], [(11, query("deallocate x1"))], [(11, [["C", "S", "x1"], *extended("select 4", name="x1")])]],
    "a name of PREPARE in a failed transaction": [
        [(9, query('prepare "P 3" as insert into c9a.t(n, note) values (1, \'x\') returning n'))], [(10, query('execute "P 3"'))], [(9, query("begin"))],
        [(9, query("execute p2('one')"))], [(9, [["B", "", "P 3", []], ["D", "P", ""], ["E", "", 0], ["S"]])],
        [(9, [["D", "S", "P 3"], ["S"]])], [(9, query("rollback"))], [(9, [["B", "", "P 3", []], ["E", "", 0], ["S"]])]],
}
