"""Who may log in: the rules of an hba file and user maps, and secrets that auth_query finds."""
import os
import pwd
import re
import subprocess

import pytest
from harness.postgres import PASSWORD
from harness.proxy import Pgweir
from harness.system import wait_until
from harness.tls import Authority
from harness.wire import Connection, PgError, startup, tls_context


@pytest.fixture
def server_tls(authority):
    certificate, key = authority.issue("proxy")
    return {"client_tls_cert_file": certificate, "client_tls_key_file": key, "client_tls_ca_file": authority.ca}


def refusal(proxy, *arguments, **more):
    """The error of a login that must not succeed."""
    with pytest.raises(PgError) as refused:
        proxy.connect(*arguments, **more)
    return refused.value


class TestRules:
    """auth_type = hba."""

    @staticmethod
    def settings(workspace, rules, maps=None, **more):
        folder = workspace.folder("hba")
        files = {"auth_hba_file": workspace.write(folder / "hba.conf", rules)}
        if maps is not None:
            files["auth_ident_file"] = workspace.write(folder / "ident.conf", maps)
        return {"auth_type": "hba", **files, **more}

    def test_first_rule_that_fits_decides(self, pgweir, workspace):
        proxy = pgweir(settings=self.settings(workspace, """\
# type  database  user         address        method
host    all       reject_user  127.0.0.1/32   reject
host    postgres  plain_user   127.0.0.1/32   md5
host    all       scram_user   127.0.0.1 255.255.255.255  scram-sha-256
host    "template1",sameuser all 127.0.0.1/32 trust
host    all       md5_user     10.0.0.0/8     trust
host    all       password_user all           password
host    replication all        127.0.0.1/32   trust
local   all       postgres                    trust
host    all       postgres     127.0.0.1/32   trust
"""), accounts={"plain_user": "pw"}, databases={"plain_user": "dbname=postgres"})
        with proxy.connect("scram_user", password=PASSWORD) as client:
            assert client.value("select current_user") == "scram_user"
        for user, password in (("plain_user", "pw"), ("password_user", PASSWORD)):
            proxy.connect(user, password=password).close()
            assert refusal(proxy, user, password="wrong").sqlstate == "28P01"
        proxy.connect("plain_user", "template1").close()
        proxy.connect("plain_user", "plain_user").close()
        rejected = refusal(proxy, "reject_user")
        assert rejected.sqlstate == "28000" and "rejects connection" in rejected.fields["M"]
        nothing = refusal(proxy, "md5_user", password=PASSWORD)
        assert nothing.sqlstate == "28000" and "no entry in auth_hba_file" in nothing.fields["M"]
        # "all" is not "replication", and the other way round
        proxy.connect("monitor_user", "template1").close()
        assert refusal(proxy, "monitor_user").sqlstate == "28000"

    def test_transport(self, pgweir, workspace, server_tls, authority):
        proxy = pgweir(settings=self.settings(workspace, """\
hostssl   all plain_user all trust
hostnossl all scram_user all trust
host      all postgres   all trust
""", client_tls_sslmode="allow", **server_tls))
        tls = tls_context(authority.ca)
        proxy.connect("plain_user", tls=tls).close()
        assert "no encryption" in refusal(proxy, "plain_user").fields["M"]
        proxy.connect("scram_user").close()
        assert "SSL encryption" in refusal(proxy, "scram_user", tls=tls).fields["M"]

    def test_certificates_and_maps(self, pgweir, workspace, server_tls, authority):
        rules = "hostssl all plain_user all cert map=people\nhostssl all postgres all cert\n"
        maps = "people alice plain_user\npeople /^(.*)@example.com$ \\1\n"
        proxy = pgweir(settings=self.settings(workspace, rules, maps, client_tls_sslmode="verify-full",
                                              unix_socket_dir="", **server_tls))
        admin = tls_context(authority.ca, *(lambda pair: (pair[0], authority.private_copy(pair[1])))(authority.issue("postgres")))
        connect = proxy.connect
        proxy.admin = lambda command: connect("postgres", "pgweir", tls=admin).query(command).dicts

        def tls(name):
            certificate, key = authority.issue(f"client_{name}", common_name=name)
            return tls_context(authority.ca, certificate, authority.private_copy(key))

        proxy.connect("plain_user", tls=tls("alice")).close()
        proxy.connect("plain_user", tls=tls("plain_user@example.com")).close()
        proxy.connect("postgres", tls=tls("postgres")).close()
        proxy.reload(client_tls_sslmode="require")  # certificates are no must now, but those of others are not believed
        stranger = Authority(workspace, "stranger")
        certificate, key = stranger.issue("fake", common_name="alice")
        for context in (tls_context(authority.ca), tls_context(authority.ca, certificate, stranger.private_copy(key))):
            assert refusal(proxy, "plain_user", tls=context).sqlstate == "28000"
        proxy.connect("plain_user", tls=tls("alice")).close()
        for name, user in (("plain_user", "plain_user"), ("alice", "postgres"), ("postgres", "plain_user"),
                           ("plain_user@example.org", "plain_user")):
            refused = refusal(proxy, user, tls=tls(name))
            assert refused.sqlstate == "28000" and "certificate authentication failed" in refused.fields["M"]

    def test_peer_and_maps(self, workspace, cluster):
        folder = workspace.folder("sockets")
        os.chmod(folder, 0o777)
        me = pwd.getpwuid(os.geteuid()).pw_name
        settings = self.settings(workspace, "local all plain_user peer map=me\nlocal all postgres peer\nhost all all all trust\n",
                                 f"me {me} plain_user\n", unix_socket_dir=folder)
        with Pgweir(cluster, settings=settings) as proxy:
            local = Pgweir.__new__(Pgweir)
            local.host, local.port = str(folder), proxy.port
            local.connect("plain_user").close()
            assert refusal(local, "scram_user").sqlstate == "28000"
            if me != "postgres":
                refused = refusal(local, "postgres")
                assert refused.sqlstate == "28000" and "peer authentication failed" in refused.fields["M"]

    @pytest.mark.parametrize("rules, maps, expected", [
        ("host all all all ldap\n", None, r"hba\.conf:1: authentication method \"ldap\" is not supported"),
        ("\nhost all all 127.0.0.1/33 trust\n", None, r"hba\.conf:2: invalid prefix length"),
        ("local all all peer map=m\n", None, r"hba\.conf:1: there is no map \"m\" in auth_ident_file"),
        ("hostssl all all all cert\n", None, r"hba\.conf:1: cert needs client_tls_sslmode and client_tls_ca_file"),
        ("local all all peer map=m\n", "m /( x\n", r"ident\.conf:1: invalid regular expression"),
    ])
    def test_bad_files_are_refused_at_start_and_kept_out_by_reload(self, pgweir, workspace, cluster, rules, maps, expected):
        bad = Pgweir(cluster, settings=self.settings(workspace, rules, maps))
        bad.write_config()
        bad.spawn()
        assert bad.process.wait(60) == 1
        bad.wait_for_log(expected)
        checked = subprocess.run(workspace.as_server(workspace.reachable(bad.program()), "--check-config", bad.ini),
                                 capture_output=True, text=True, timeout=60, check=False)
        assert checked.returncode == 1 and re.search(expected, checked.stderr)
        proxy = pgweir(settings=self.settings(workspace, "host all all all trust\n"))
        with pytest.raises(PgError) as refused:
            proxy.reload(**self.settings(workspace, rules, maps))
        assert refused.value.sqlstate == "F0000"
        proxy.connect("plain_user").close()

    def test_reload_brings_new_rules(self, pgweir, workspace):
        settings = self.settings(workspace, "host all all all trust\n")
        proxy = pgweir(settings=settings)
        with proxy.connect("plain_user") as stays:
            workspace.write(settings["auth_hba_file"], "host all postgres all trust\n")
            proxy.reload()
            assert refusal(proxy, "plain_user").sqlstate == "28000"
            assert stays.value("select 1") == "1"


def test_trust_wants_a_name_of_the_list(pgweir, workspace):
    """As PgBouncer has it; a forced user would let anybody in. auth_type = any is for that."""
    proxy = pgweir(databases={"forced": "dbname=postgres user=plain_user"})
    proxy.connect("scram_user", "forced").close()
    refused = refusal(proxy, "nobody_knows_me", "forced")
    assert refused.sqlstate == "28000" and refused.fields["M"].startswith('"trust" authentication failed')
    proxy.reload(auth_type="any")
    proxy.connect("nobody_knows_me", "forced").close()


@pytest.fixture
def accounts_db(cluster):
    """A database with roles of all kinds and a look-up function; the roles are gone afterwards."""
    node, name = cluster.primary, cluster.create_database()
    node.query(f"""
create role auth_reader login superuser password 'reader''s';
set password_encryption = 'scram-sha-256';
create role q_scram login password 'one';
create role q_expired login password 'one' valid until '2001-01-01';
create role q_future login password 'one' valid until '2101-01-01';
create role q_nologin password 'one';
create role q_empty login;
set password_encryption = 'md5';
create role q_md5 login password 'one';
""")
    node.query("""
create function user_lookup(who text, out name text, out secret text) returns setof record language sql security definer as
  $$ select rolname::text, rolpassword::text from pg_catalog.pg_authid where rolname::text = $1 $$;
create table trap (what text);
""", database=name)
    yield name
    cluster.drop_database(name)
    node.query("drop role auth_reader, q_scram, q_expired, q_future, q_nologin, q_empty, q_md5")


def by_query(**more):
    return {"auth_type": "md5", "auth_user": "auth_reader", **more}


READER = {"auth_reader": "reader's"}


class TestQuery:
    """auth_query, for users who are not in auth_file."""

    def test_who_is_let_in(self, pgweir, accounts_db):
        proxy = pgweir(settings=by_query(), accounts=READER)
        for user in ("q_scram", "q_future", "q_md5"):
            with proxy.connect(user, accounts_db, password="one") as client:
                assert client.value("select current_user") == user
            assert refusal(proxy, user, accounts_db, password="two").sqlstate == "28P01"

    @pytest.mark.parametrize("user", ["q_expired", "q_nologin", "q_empty", "q_nobody", "auth_reader", "x" * 63, "x" * 64, "x" * 5000,
                                      "' or true --"])
    def test_who_is_not(self, pgweir, accounts_db, user):
        """CVE-2025-2291 (VALID UNTIL), CVE-2015-6817 (an unknown user became auth_user): all look like a wrong password."""
        proxy = pgweir(settings=by_query(auth_type="scram-sha-256"), accounts=READER)
        proxy.connect("q_scram", accounts_db, password="one").close()
        wrong = refusal(proxy, "q_scram", accounts_db, password="two").fields
        refused = refusal(proxy, user, accounts_db, password="one").fields
        assert {**refused, "M": ""} == {**wrong, "M": ""}
        assert refused["M"] == wrong["M"].replace("q_scram", user)[:len(refused["M"])]

    def test_trust_wants_a_role_with_or_without_a_secret(self, pgweir, accounts_db):
        """As PgBouncer has it: a role that cannot log in by password may be trusted; who is no role at all may not."""
        proxy = pgweir(settings=by_query(auth_type="trust"), accounts=READER)
        for user in ("q_scram", "q_empty", "q_expired"):
            with proxy.connect(user, accounts_db) as client:
                assert client.value("select session_user") == user
        for user in ("q_nobody", "q_nologin"):
            refused = refusal(proxy, user, accounts_db)
            assert refused.sqlstate == "28000" and refused.fields["M"] == "no such user"

    def test_auth_dbname_that_is_of_no_use(self, pgweir, accounts_db):
        """Said to whoever asks, whether his name exists or not; a database with an auth_dbname of its own is not concerned."""
        proxy = pgweir(settings=by_query(auth_dbname="nowhere"), accounts={**READER, "postgres": "boss"},
                       databases={"shop": f"dbname={accounts_db}", "good": f"dbname={accounts_db} auth_dbname=shop"})
        proxy.admin = lambda command: proxy.connect("postgres", "pgweir", password="boss").query(command).dicts
        del proxy.sections["databases"]["*"]
        proxy.reload()
        for user in ("q_scram", "q_nobody"):
            assert refusal(proxy, user, "shop", password="one").fields["M"] == "bouncer config error"
        proxy.wait_for_log('authentication database "nowhere" is not configured')
        proxy.connect("q_scram", "good", password="one").close()
        proxy.admin("DISABLE shop")
        refused = refusal(proxy, "q_scram", "good", password="one")
        assert refused.sqlstate == "55000" and refused.fields["M"] == 'authentication database "shop" is disabled'
        proxy.admin("ENABLE shop")
        proxy.connect("q_scram", "good", password="one").close()

    def test_the_console_is_no_auth_dbname(self, pgweir, cluster, accounts_db):
        """Not in [databases] either; and without any, nobody asks the server of "*" for users of the console."""
        proxy = pgweir(settings=by_query(), accounts={**READER, "postgres": "boss"},
                       databases={"shop": f"dbname={accounts_db} auth_dbname=pgweir", "*": f"dbname={accounts_db}"})
        proxy.admin = lambda command: proxy.connect("postgres", "pgweir", password="boss").query(command).dicts
        for user in ("q_scram", "q_nobody"):
            assert refusal(proxy, user, "shop", password="one").fields["M"] == "bouncer config error"
        proxy.wait_for_log('cannot use the reserved "pgweir" database as an auth_dbname')
        mark = cluster.mark()
        assert refusal(proxy, "q_scram", "pgweir", password="one").sqlstate == "28P01"
        assert not [line for node in cluster.nodes for line in node.log_lines(mark[node.name]) if "q_scram" in line.text]

    @pytest.mark.parametrize("database", ["no_such_database", "y" * 64, "y" * 9000])
    def test_databases_are_not_told(self, pgweir, accounts_db, database):
        """CVE-2012-4575: a long name of a database from the network; and who has not logged in learns nothing of names."""
        proxy = pgweir(settings=by_query(), accounts=READER)
        assert refusal(proxy, "q_scram", database, password="one").sqlstate == "28P01"
        proxy.connect("q_scram", accounts_db, password="one").close()

    def test_the_exchange_of_an_unknown_user_is_that_of_a_known_one(self, pgweir, accounts_db):
        proxy = pgweir(settings=by_query(), accounts={**READER, **dict.fromkeys(("a", "b", "c", "d", "e", "f"), "md5" + "0" * 32)})
        proxy.connect("q_scram", accounts_db, password="one").close()

        def asked_for(user):
            with Connection(proxy.port) as client:
                client.send(startup({"user": user, "database": accounts_db}))
                answer = client.read()
                return answer.type, answer.body[:4]

        assert asked_for("q_nobody") == asked_for("q_scram") == asked_for("q_expired")

    def test_a_change_counts_at_once(self, pgweir, cluster, accounts_db):
        proxy = pgweir(settings=by_query(), accounts=READER)
        proxy.connect("q_scram", accounts_db, password="one").close()
        cluster.primary.query("alter role q_scram password 'two'")
        proxy.connect("q_scram", accounts_db, password="two").close()
        assert refusal(proxy, "q_scram", accounts_db, password="one").sqlstate == "28P01"
        cluster.primary.query("alter role q_scram valid until '2001-01-01'")
        assert refusal(proxy, "q_scram", accounts_db, password="two").sqlstate == "28P01"

    def test_a_replica_is_asked_only_without_a_primary(self, pgweir, new_cluster):
        """Its connection was made while there was no other; what it says may be old once there is a primary."""
        cluster = new_cluster()
        cluster.primary.query("create role auth_reader login superuser password 'reader''s'; create role q_late login password 'one'")
        cluster.settle()
        cluster.primary.stop()
        proxy = pgweir(on=cluster, settings=by_query(), accounts=READER)
        wait_until(lambda: refusal(proxy, "q_late", "postgres", password="wrong").sqlstate == "28P01", "the replica is asked")
        cluster.primary.start()
        # Asked all the time, so that the connection is not given up as idle.
        wait_until(lambda: refusal(proxy, "q_late", "postgres", password="wrong") and "is primary" in proxy.log_text(), "a primary")
        cluster.standby.pause_replay()
        cluster.primary.query("alter role q_late password 'two'")
        proxy.connect("q_late", "postgres", password="two").close()
        cluster.standby.resume_replay()

    def test_settings_of_the_client_have_no_say(self, pgweir, cluster, accounts_db):
        """CVE-2025-12819: a search_path in the start-up packet must not reach the query, written carelessly as it is."""
        cluster.primary.query("""
create schema evil;
create function evil.user_lookup(who text, out name text, out secret text) returns setof record language plpgsql as
  $$ begin insert into public.trap values ('run'); return query select who, 'known to the attacker'::text; end $$;
create function evil.eq(text, text) returns boolean language plpgsql as
  $$ begin insert into public.trap values ('op'); return true; end $$;
create operator evil.= (leftarg = text, rightarg = text, function = evil.eq);
grant usage on schema evil to public;
""", database=accounts_db)
        careless = "select name, secret from user_lookup($1) where name = $1"
        for query in (careless, None):
            proxy = pgweir(settings=by_query(**({"auth_query": query} if query else {})), accounts=READER)
            for more in ({"search_path": "evil, public, pg_catalog"}, {"options": "-c search_path=evil,pg_catalog"}):
                assert refusal(proxy, "q_nobody", accounts_db, password="known to the attacker", **more).sqlstate == "28P01"
                with proxy.connect("q_scram", accounts_db, password="one", **more) as client:
                    assert "evil" in client.value("show search_path")
        assert cluster.primary.query("select * from public.trap", database=accounts_db) == []

    def test_where_it_runs(self, pgweir, cluster, accounts_db):
        """auth_dbname names an entry of [databases]; keys of a database go before those of all."""
        marked = "select rolname, rolpassword from pg_authid where rolname = $1 /* {} */"
        proxy = pgweir(settings=by_query(auth_dbname="accounts", auth_query=marked.format("all")), accounts=READER,
                       databases={"accounts": f"dbname={accounts_db}",
                                  "own": {"dbname": "postgres", "auth_dbname": "own", "auth_query": f"'{marked.format('own')}'"}})
        mark = cluster.mark()
        proxy.connect("q_scram", "own", password="one").close()
        proxy.connect("q_scram", "postgres", password="one").close()
        # On a replica, as long as it is the only one that has been found.
        seen = {(line.database, line.statement.split("/*")[1]) for lines in cluster.statements(mark, harness=True).values()
                for line in lines if line.statement and "rolpassword" in line.statement}
        assert seen == {("postgres", " own */"), (accounts_db, " all */")}

    def test_console(self, pgweir, accounts_db):
        """The console has no database of its own: auth_dbname says where its users are."""
        proxy = pgweir(settings=by_query(auth_dbname="accounts", admin_users="postgres,q_scram"), accounts=READER,
                       databases={"accounts": f"dbname={accounts_db}"})
        with proxy.connect("q_scram", "pgweir", password="one") as console:
            assert console.query("show version").rows
        assert refusal(proxy, "q_scram", "pgweir", password="two").sqlstate == "28P01"
        assert refusal(proxy, "q_md5", "pgweir", password="one").sqlstate != "28P01"  # a user, but of no rank
        proxy.admin = lambda command: None

    @pytest.mark.parametrize("query", ["select 1/0", "select rolname from pg_authid where rolname = $1",
                                       "select rolname, rolpassword from pg_authid where rolname <> $1", "no sql"])
    def test_a_query_that_fails_says_nothing_of_the_user(self, pgweir, accounts_db, query):
        proxy = pgweir(settings=by_query(auth_query=query), accounts=READER)
        for user in ("q_scram", "q_nobody"):
            assert refusal(proxy, user, accounts_db, password="one").sqlstate == "08006"
        proxy.wait_for_log("auth_query as \"auth_reader\" in database")

    def test_many_at_once(self, pgweir, cluster, accounts_db):
        """Logins that arrive together share queries, and a server that has closed the connection is asked again."""
        proxy = pgweir(settings=by_query(max_client_conn=200), accounts=READER)
        for _ in range(3):
            waiting = []
            for _ in range(20):
                client = Connection(proxy.port)
                client.send(startup({"user": "q_scram", "database": accounts_db}))
                waiting.append(client)
            for client in waiting:
                client.authenticate("q_scram", "one")
                client.close()
            cluster.primary.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'auth_reader'")

    def test_a_client_that_leaves_while_it_is_looked_up(self, pgweir, accounts_db):
        slow = "select rolname, rolpassword from (select pg_sleep(0.2)) nap, pg_authid where rolname = $1"
        proxy = pgweir(settings=by_query(auth_query=slow), accounts=READER)
        for _ in range(5):
            client = Connection(proxy.port)
            client.send(startup({"user": "q_scram", "database": accounts_db}))
            client.drop()
        proxy.connect("q_scram", accounts_db, password="one").close()
        client = Connection(proxy.port)  # is still being looked up when the process ends
        client.send(startup({"user": "q_scram", "database": accounts_db}))
