"""Every key of PgBouncer's: a file that holds them all starts, and whatever is wrong in a file is told by file, line, key and
what would be right.  The keys stand in data/pgbouncer_keys.tsv."""
import csv
import grp
import os
import pathlib
import pwd
import re
import subprocess

import pytest
from harness.proxy import ENVIRONMENT, Pgweir, binary

KEYS = pathlib.Path(__file__).parent / "data/pgbouncer_keys.tsv"
PREFIX = {"pgbouncer": "", "databases": "database every: ", "users": "user plain_user: ", "peers": "peer 1: "}
NAMES = {"databases": "every", "users": "plain_user", "peers": "1"}


def table():
    with open(KEYS, encoding="utf-8") as lines:
        return list(csv.DictReader((line for line in lines if not line.startswith("#")), delimiter="\t", quoting=csv.QUOTE_NONE))


ROWS = table()
WRONG = [(row, number, value) for row in ROWS if row["wrong"] != "-" for number, value in enumerate(row["wrong"].split("|"))]


# --- a file with all of them ---


class Everything(Pgweir):
    """Its file is made from the table, as a pgbouncer.ini."""

    section = "pgbouncer"

    def __init__(self, cluster, authority, database):
        super().__init__(cluster)
        self.folder.chmod(0o700)
        certificate, key = authority.issue("every")
        account = pwd.getpwuid(self.folder.stat().st_uid)
        self.words = {"port": self.port, "primary": cluster.primary.port, "folder": self.folder, "database": database, "cert": certificate,
                      "key": key, "ca": authority.ca, "account": account.pw_name, "group": grp.getgrgid(account.pw_gid).gr_name}
        self.ini = self.folder / "every.ini"
        self.log = self.folder / "every.log"

    def value_of(self, row):
        return row["right"].format(**self.words)

    def write_config(self):
        super().write_config()  # its auth_file is of use
        write = self.workspace.write
        write(self.folder / "hba.conf", "local all all trust\nhost all all all trust\n")
        write(self.folder / "ident.conf", "map somebody postgres\n")
        write(self.folder / "resolv.conf", "nameserver 127.0.0.1\n")
        text = []
        for section in ("databases", "users", "peers"):
            keys = " ".join(f"{row['key']}={self.value_of(row)}" for row in ROWS if row["section"] == section)
            text += [f"[{section}]", f"{NAMES[section]} = {keys}"]
        text.append("[pgbouncer]")
        text += [f"{row['key']} = {self.value_of(row)}" for row in ROWS if row["section"] == "pgbouncer"]
        self.text = "\n".join(text) + "\n"
        write(self.ini, self.text)


def test_a_file_with_every_key_starts(cluster, authority, database):
    with Everything(cluster, authority, database) as proxy:
        assert proxy.value("select current_database()", "every") == database
        shown = {row["key"]: row["value"] for row in proxy.admin("show config")}
        for row in ROWS:
            assert re.search(rf"(^|\s){row['key']} ?=", proxy.text, re.M), row
            if row["section"] == "pgbouncer":
                assert shown[row["key"]] == proxy.value_of(row), row
        proxy.admin("reload")  # once more, as a change
        assert proxy.value("select 1", "every") == "1"


# --- wrong values ---


@pytest.fixture(scope="module")
def complaints(workspace):
    """What is said about the wrong values, by their number: (lines of the output, the place of each section and key)."""
    made = {}

    def make(number):
        if number not in made:
            rows = [(row, value) for row, at, value in WRONG if at == number]
            text, places = [], {}
            for section in PREFIX:
                text.append(f"[{section}]")
                mine = [(row["key"], value) for row, value in rows if row["section"] == section]
                if section == "pgbouncer":
                    for key, value in mine:
                        text.append(f"{key} = {value}")
                        places[section, key] = len(text)
                elif mine:
                    host = "host=127.0.0.1 " if section != "users" else ""
                    text.append(f"{NAMES[section]} = {host}" + " ".join(f"{key}='{value}'" for key, value in mine))
                    places.update({(section, key): len(text) for key, _ in mine})
            path = workspace.write(workspace.folder("wrong") / "pgbouncer.ini", "\n".join(text) + "\n")
            done = subprocess.run(workspace.as_server(workspace.reachable(binary()), "--check-config", path), capture_output=True,
                                  text=True, timeout=60, check=False, env={**os.environ, **ENVIRONMENT})
            assert done.returncode == 1
            made[number] = (path, done.stderr.splitlines(), places)
        return made[number]
    return make


@pytest.mark.parametrize("row, number, value", WRONG, ids=[f"{row['section']}-{row['key']}-{value}" for row, _, value in WRONG])
def test_a_wrong_value_is_told_with_its_place_and_what_is_right(complaints, row, number, value):
    path, lines, places = complaints(number)
    start = f"error: {path}:{places[row['section'], row['key']]}: {PREFIX[row['section']]}{row['key']}: "
    mine = [line[len(start):] for line in lines if line.startswith(start)]
    assert len(mine) == 1, lines
    assert row["says"] in mine[0]
    # A port is not repeated: in a URI that lost its "@" the password stands there.
    assert value in mine[0] or row["section"] == "databases" and row["key"] == "port"
