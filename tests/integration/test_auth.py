"""Who may log in: the rules of an hba file and user maps, and secrets that auth_query finds."""
import os
import pwd
import re
import subprocess

import pytest
from harness.postgres import PASSWORD
from harness.proxy import Pgweir
from harness.wire import PgError, tls_context


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
        proxy.admin = lambda command: None  # nobody without a certificate gets in, the harness included

        def tls(name):
            certificate, key = authority.issue(f"client_{name}", common_name=name)
            return tls_context(authority.ca, certificate, authority.private_copy(key))

        proxy.connect("plain_user", tls=tls("alice")).close()
        proxy.connect("plain_user", tls=tls("plain_user@example.com")).close()
        proxy.connect("postgres", tls=tls("postgres")).close()
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
        ("hostssl all all all cert\n", None, r"hba\.conf:1: cert needs client_tls_sslmode = verify-ca or verify-full"),
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
