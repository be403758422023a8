"""Settings under transaction pooling: the same programs on private connections and through one backend, compared answer by
answer, ParameterStatus included."""
import pytest

SCHEMA = """
create schema a; create schema "B c"; create table a.t(x text); create table "B c".t(x text);
insert into a.t values ('a'); insert into "B c".t values ('b');
create function sets(text, text) returns text language plpgsql as
    $$ begin return set_config('work_mem', $1, false) || set_config('timezone', $2, false); end $$;
"""

# Each client's program: one statement a line; *: by the extended protocol.
PROGRAMS = {
    "outside": ["set work_mem = '5MB'", "set datestyle = german", "set timezone to 'Asia/Tokyo'", "set time zone -3",
                "*set bytea_output = escape", "set session work_mem to 77777", "select set_config('statement_timeout', '99s', false)",
                "set names latin1", "set work_mem = 'nonsense'", "set extra_float_digits to 1"],
    "code": ["do $$ begin perform set_config('work_mem', '6MB', false); end $$", "select sets('7MB', 'Asia/Tokyo')",
             "*select sets('8MB', 'America/Lima')", "select sets('9MB', 'nowhere')", "begin", "select sets('10MB', 'UTC')",
             "rollback", "begin", "select sets('11MB', 'UTC')", "commit"],
}

SHOWN = ["work_mem", "datestyle", "timezone", "bytea_output", "statement_timeout", "client_encoding", "extra_float_digits",
         "search_path", "default_transaction_isolation", "default_transaction_read_only", "role", "session_authorization",
         "application_name", "intervalstyle", "lc_monetary", "synchronous_commit"]
EVERYTHING = "select " + ", ".join(f"current_setting('{name}', true)" for name in SHOWN) + ", current_user"


@pytest.fixture
def database(cluster):
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


@pytest.mark.parametrize("name", PROGRAMS)
def test_settings_are_the_clients_own(pgweir, cluster, database, name):
    proxy = pgweir(settings={"default_pool_size": 1, "workers": 1, "max_pinned": 1}).wait_for_replicas(database)
    program = PROGRAMS[name]
    compare(proxy, cluster, database, [program, program[1:], PROGRAMS["outside"][::-1]])
    assert proxy.admin("show pins") == []
