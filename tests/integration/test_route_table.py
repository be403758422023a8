"""The golden route table for real: where each row runs by the servers' own logs, in both protocols, and what the client sees.

tests/unit/data/route.tsv says which rows are for here and within what kind of transaction.  The oracle for answers is the
primary: a read that gives the same twice there must give that through the proxy."""
import pathlib
import re

import pytest
from harness.system import TOP
from harness.wire import extended, query, sync

DATA = TOP / "tests" / "unit" / "data"
LEAST_ROWS = 230
# What EXPLAIN ANALYZE says of time and caches is different every time, though two runs may agree once.
MEASURED = re.compile(r"D +(Planning|Execution|Buffers)\b.*")
TIMING = re.compile(r"actual time=[\d.]+")
# The kinds of transaction of the column "policy".
BEGIN = {
    "tx=readonly": "begin isolation level read committed read only",
    "tx=movable": "begin",
    "tx=unmovable": "begin",  # in a database of transaction_reads=primary
    "tx=repeatable": "begin isolation level repeatable read",
    "tx=serializable": "begin isolation level serializable read only",
}


def unescaped(text):
    return text.replace("\\\\", "\0").replace("\\n", "\n").replace("\\t", "\t").replace("\0", "\\")


class Row:
    """One row of the table, with the number of its line."""

    def __init__(self, line, text):
        sql, _, self.target, self.reason, self.where, self.policy = text.split("\t")
        self.line, self.sql = line, unescaped(sql)

    def __str__(self):
        return f"route.tsv:{self.line} ({self.reason}, {self.policy}): {self.sql}"

    @property
    def options(self):
        """Of the start-up packet."""
        return {"options": f"-c pgweir.route={self.policy[5:]}"} if self.policy.startswith("wish=") else {}

    def is_for(self, protocol):
        return self.where in ("both", "tx") or (self.where == "simple" and protocol == "simple")


def table():
    lines = pathlib.Path(DATA / "route.tsv").read_text().splitlines()
    return [Row(n, line) for n, line in enumerate(lines, 1) if line and not line.startswith("#")]


@pytest.fixture
def database(cluster):
    name = cluster.create_database((DATA / "route_schema.sql").read_text())
    yield name
    cluster.drop_database(name)


def outcome(client, sql, protocol):
    """What a client is told: rows, COPY data, tags, SQLSTATEs."""
    client.send(*([query(sql)] if protocol == "simple" else [extended(sql), sync()]))
    answer = client.read_until_ready()
    kept = [TIMING.sub("...", m.brief) if m.type != "d" else m.body for m in answer
            if m.type in "DdCE" and not MEASURED.fullmatch(m.brief)]
    return kept, [m.fields["C"] for m in answer if m.type == "E"]


def nodes_that_saw(cluster, sql, mark):
    """Names of the servers that ran this text or refused it, each once.  Behind a RESET ALL the proxy puts statements of its own."""
    def is_it(text):
        return text is not None and (text == sql or text.startswith(sql + "\n;"))
    return [node.name for node in cluster.nodes
            if any(is_it(line.statement) or (line.level == "STATEMENT" and is_it(line.text))
                   for line in node.log_lines(mark[node.name]) if line.application != "harness")]


def run_row(cluster, proxy, database, row, protocol):
    """Runs one row on a connection of its own; what is wrong, in words."""
    alias = "unmovable" if row.policy == "tx=unmovable" else database
    with proxy.connect(database=alias, **row.options) as client:
        if row.policy in BEGIN:
            client.query(BEGIN[row.policy])
        mark = cluster.mark()
        got, errors = outcome(client, row.sql, protocol)
    wanted = {"primary": "primary", "replica": "standby1"}[row.target]
    wrong = []
    if nodes_that_saw(cluster, row.sql, mark) != [wanted]:
        wrong.append(f"was seen by {nodes_that_saw(cluster, row.sql, mark)}")
    if cluster.standby.errors(mark["standby1"], database=database):
        wrong.append(f"the standby said {cluster.standby.errors(mark['standby1'], database=database)}")
    told = [line.sqlstate for line in cluster.primary.errors(mark["primary"], database=database)]
    if errors != told:
        wrong.append(f"the client was told {errors}, the primary said {told}")
    if row.target == "replica" and row.reason != "WISH":  # whoever wishes vouches for the answer
        wrong += compare_with_the_primary(cluster, database, row, protocol, got)
    return [f"{row}: {problem}" for problem in wrong]


def compare_with_the_primary(cluster, database, row, protocol, got):
    answers = []
    for _ in range(2):
        with cluster.primary.connect(database=database) as direct:
            if row.policy in BEGIN:
                direct.query(BEGIN[row.policy])
            answers.append(outcome(direct, row.sql, protocol)[0])
    return [f"gave {got}, the primary {answers[0]}"] if answers[0] == answers[1] != got else []


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_route_table_for_real(cluster, pgweir, database, protocol):
    # A read waits for the standby, whatever it takes.
    proxy = pgweir(settings={"replica_wait": "60s"}, databases={"unmovable": f"dbname={database} transaction_reads=primary"})
    proxy.wait_for_replicas(database)
    rows = [row for row in table() if row.is_for(protocol)]
    assert len(rows) > LEAST_ROWS
    wrong = []
    for row in rows:
        wrong += run_row(cluster, proxy, database, row, protocol)
    assert not wrong, "\n".join(wrong)
