"""TLS and authentication on both sides of the proxy, by PgBouncer's names."""
import ssl

import pytest
from harness.postgres import PASSWORD
from harness.tls import Authority
from harness.wire import SSL_REQUEST, Connection, PgError, message, query, request, startup, tls_context


@pytest.fixture(scope="session")
def proxy_certificate(authority):
    return authority.issue("proxy")


@pytest.fixture
def client_tls(proxy_certificate, authority):
    """Settings that make the proxy speak TLS to its clients."""
    certificate, key = proxy_certificate
    return {"client_tls_cert_file": certificate, "client_tls_key_file": key, "client_tls_ca_file": authority.ca}


# who may come in


@pytest.mark.parametrize("auth_type", ["trust", "plain", "md5", "scram-sha-256"])
def test_client_authentication(new_target, auth_type):
    target = new_target(settings={"auth_type": auth_type}, accounts={"plain_user": "pass word"})
    with target.connect("plain_user", password="pass word") as client:
        assert client.value("select current_user") == "plain_user"
    if auth_type != "trust":
        with pytest.raises(PgError) as refusal:
            target.connect("plain_user", password="wrong")
        assert refusal.value.sqlstate == "28P01"


@pytest.mark.parametrize("auth_type", ["md5", "scram-sha-256"])
def test_unknown_users_look_like_wrong_passwords(new_target, auth_type):
    target = new_target(settings={"auth_type": auth_type})
    with pytest.raises(PgError) as refusal:
        target.connect("nobody_knows_me", password="x")
    assert refusal.value.sqlstate == "28P01"


def test_secrets_of_the_auth_file_may_be_hashed(new_target, cluster):
    """A SCRAM verifier copied from pg_authid, and an md5 hash, as PgBouncer's auth_file has them."""
    accounts = dict(cluster.primary.query("select rolname, rolpassword from pg_authid where rolname in ('scram_user', 'md5_user')"))
    target = new_target(settings={"auth_type": "md5"}, accounts=accounts)
    for user in ("scram_user", "md5_user"):
        with target.connect(user, password=PASSWORD) as client:
            assert client.value("select current_user") == user
        with pytest.raises(PgError) as refusal:
            target.connect(user, password="wrong")
        assert refusal.value.sqlstate == "28P01"


@pytest.mark.parametrize("user", ["scram_user", "md5_user", "password_user"])
def test_the_servers_kinds_of_password(target, user):
    with target.connect(user) as client:
        assert client.value("select current_user") == user


def test_password_message_before_it_is_asked_for(target):
    with Connection(target.port) as client:
        client.send(message("p", b"guess\0"))
        assert all(m.type == "E" for m in client.read_to_end())


# TLS to clients


@pytest.mark.parametrize("mode, plain, encrypted", [("disable", True, False), ("allow", True, True), ("require", False, True)])
def test_client_tls_modes(new_target, client_tls, mode, plain, encrypted):
    target = new_target(settings={**client_tls, "client_tls_sslmode": mode})
    if plain:
        assert target.value("select 1") == "1"
    else:
        with pytest.raises(PgError):
            target.connect()
    with Connection(target.port) as client:
        assert client.request_tls() == (b"S" if encrypted else b"N")


@pytest.mark.threads
def test_client_verifies_the_proxy(new_target, client_tls, authority):
    target = new_target(settings={**client_tls, "client_tls_sslmode": "require"})
    with target.connect(tls=tls_context(authority.ca)) as client:
        assert client.sock.version() in ("TLSv1.2", "TLSv1.3")
        assert len(client.query("select repeat('x', 300000)").rows[0][0]) == 300000
        assert client.query(f"select length('{'y' * 300000}')").rows == [("300000",)]


def test_key_and_certificate_set_one_after_the_other(pgweir, client_tls, authority):
    """As with PgBouncer's console: the first one alone is of no use, so that the old pair serves until the second one is there."""
    proxy = pgweir(settings={**client_tls, "client_tls_sslmode": "require"})
    certificate, key = authority.issue("second_proxy")

    def shown():
        with proxy.connect(tls=tls_context(authority.ca)) as client:
            return dict(item for part in client.sock.getpeercert()["subject"] for item in part)["commonName"]

    def said(sql):
        console.send(query(sql))
        return [(m.type, m.fields["M"]) for m in console.read_until_ready() if m.type in "NE"]
    with proxy.connect("postgres", "pgweir", tls=tls_context(authority.ca)) as console:
        for order in ((("key", key), ("cert", certificate)), (("cert", client_tls["client_tls_cert_file"]), ("key", client_tls["client_tls_key_file"]))):
            before = shown()
            (first, path), (second, other_path) = order
            assert said(f"SET client_tls_{first}_file = '{path}'") == \
                [("N", "TLS settings could not be applied, still using old configuration")]
            assert shown() == before
            assert said(f"SET client_tls_{second}_file = '{other_path}'") == []
            assert shown() == {"proxy": "second_proxy", "second_proxy": "proxy"}[before]
        # what is no half of a pair is refused, and a mode never holds without its context
        assert said("SET client_tls_ca_file = '/nowhere'")[0][0] == "E"
        mode = {row["key"]: row["value"] for row in console.query("SHOW CONFIG").dicts}["server_tls_sslmode"]
        assert [kind for kind, _ in said("SET server_tls_key_file = '/nowhere'")] == ([] if mode == "disable" else ["N"])
        assert said("SET server_tls_sslmode = 'verify-ca'")[0][0] == "E"
        assert {row["key"]: row["value"] for row in console.query("SHOW CONFIG").dicts}["server_tls_sslmode"] == mode


def test_client_certificates(new_target, client_tls, authority, workspace):
    target = new_target(settings={**client_tls, "client_tls_sslmode": "verify-full"})
    certificate, key = authority.issue("postgres")
    with target.connect(tls=tls_context(authority.ca, certificate, authority.private_copy(key))) as client:
        assert client.value("select 1") == "1"
    with pytest.raises((PgError, OSError, AssertionError, ssl.SSLError)):
        target.connect(tls=tls_context(authority.ca))


@pytest.mark.parametrize("protocols, sqlstate", [(["postgresql"], None), ([], "08P01")])
def test_direct_tls(pgweir, client_tls, authority, database, protocols, sqlstate):
    """PostgreSQL 17's sslnegotiation=direct: a handshake without SSLRequest, which must agree on the protocol by ALPN."""
    proxy = pgweir(settings={**client_tls, "client_tls_sslmode": "require"})
    context = tls_context(authority.ca)
    if protocols:
        context.set_alpn_protocols(protocols)
    with Connection(proxy.port) as client:
        client.start_tls(context, "localhost")
        client.send(startup({"user": "postgres", "database": database}))
        if sqlstate:
            assert [m.fields["C"] for m in client.read_to_end() if m.type == "E"] == [sqlstate]
            return
        assert client.sock.selected_alpn_protocol() == "postgresql"
        client.read_until_ready(welcome=True)
        assert client.value("select 42") == "42"


def test_bytes_in_clear_after_the_tls_request_are_an_error(new_target, client_tls):
    """CVE-2021-23214: what a third party slipped in before the handshake must never be taken for the client's."""
    target = new_target(settings={**client_tls, "client_tls_sslmode": "require"})
    with Connection(target.port) as client:
        client.send(request(SSL_REQUEST), startup({"user": "postgres", "database": "postgres"}), query("select 'injected'"))
        received = b""
        try:
            while data := client.sock.recv(1000):
                received += data
        except ConnectionResetError:
            pass
        assert b"injected" not in received
        assert received[:1] in (b"", b"S", b"E")


def test_tls_with_single_byte_writes(new_target, client_tls, authority):
    target = new_target(settings={**client_tls, "client_tls_sslmode": "require"})
    with target.connect(tls=tls_context(authority.ca)) as client:
        for byte in query("select 'byte by byte'"):
            client.sock.sendall(bytes([byte]))
        assert "D byte by byte" in client.brief_until_ready()


# TLS to servers


@pytest.mark.threads
@pytest.mark.parametrize("mode, encrypted", [("disable", "f"), ("prefer", "t"), ("require", "t"), ("verify-ca", "t"),
                                             ("verify-full", "t")])
def test_server_tls_modes(new_target, authority, mode, encrypted):
    target = new_target(settings={"server_tls_sslmode": mode, "server_tls_ca_file": authority.ca})
    with target.connect() as client:
        assert client.value("select ssl from pg_stat_ssl where pid = pg_backend_pid()") == encrypted
        assert len(client.query("select repeat('x', 300000)").rows[0][0]) == 300000


def test_server_that_wants_tls(new_target, authority):
    target = new_target(settings={"server_tls_sslmode": "require"})
    with target.connect("tls_user") as client:
        assert client.value("select current_user") == "tls_user"


def test_server_of_another_authority_is_refused(new_target, workspace):
    stranger = Authority(workspace, "stranger")
    target = new_target(settings={"server_tls_sslmode": "verify-full", "server_tls_ca_file": stranger.ca,
                                  "query_wait_timeout": 3, "failover_timeout": "3s"})
    with pytest.raises(PgError):
        target.connect()


def test_certificate_of_the_proxy_to_the_server(new_target, authority):
    certificate, key = authority.issue("cert_user")
    target = new_target(settings={"server_tls_sslmode": "verify-full", "server_tls_ca_file": authority.ca,
                                  "server_tls_cert_file": certificate, "server_tls_key_file": key})
    with target.connect("cert_user") as client:
        assert client.value("select current_user") == "cert_user"
