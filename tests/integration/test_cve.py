"""What has been a hole in some pooler, each as a test here.  Others of the list stand with what they are about: CVE-2026-6667 in
test_console.py; CVE-2025-12819, CVE-2025-2291, CVE-2015-6817 and CVE-2012-4575 in test_auth.py."""
import hashlib
import socket
import struct
import threading

import pytest
from harness import wire
from harness.network import Link
from harness.postgres import PASSWORD
from harness.proxy import Pgweir
from harness.wire import Closed, Connection, PgError, query, request, startup

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
LENGTHS = [0, 3, 4, 5, 0xFFFF, 0x10001, 0x7FFFFFFB, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFB, 0xFFFFFFFF]


def message(kind, body=b"", length=None):
    return kind + struct.pack("!I", len(body) + 4 if length is None else length) + body


def is_well(proxy):
    return proxy.process.poll() is None and proxy.value("select 'well'") == "well"


# --- malformed packets of clients ---


@pytest.fixture(scope="module")
def asks(shared_cluster):
    """Proxies that ask for a password, one for each way to ask."""
    made = {}

    def make(auth_type):
        if auth_type not in made:
            made[auth_type] = Pgweir(shared_cluster, settings={"auth_type": auth_type, "client_login_timeout": 20},
                                     accounts={"postgres": "boss"})
            made[auth_type].__enter__()
            made[auth_type].admin = lambda command: None
        return made[auth_type]
    yield make
    for proxy in made.values():
        proxy.stop()


def still_lets_in(proxy):
    with proxy.connect("postgres", password="boss") as client:
        return client.value("select 1") == "1"


def is_refused(client):
    """The connection ends, with an error or without; nothing else comes."""
    try:
        return all(answer.type in "RE" for answer in client.read_to_end())
    except ConnectionError:
        return True


@pytest.mark.parametrize("auth_type", ["scram-sha-256", "md5", "plain"])
def test_lengths_of_login_messages(asks, auth_type):
    """CVE-2026-6664: an overflow in the check of a packet's length ended the process before any login."""
    proxy = asks(auth_type)
    for length in LENGTHS:
        for kind, body in ((b"p", b"SCRAM-SHA-256\0"), (b"p", b""), (b"X", b"xyz"), (b"Q", b"select 1\0"), (b"\0", b"abc")):
            with Connection(proxy.port) as client:
                client.send(startup({"user": "postgres", "database": "postgres"}))
                client.read()
                client.send(message(kind, body, length))
                client.sock.shutdown(socket.SHUT_WR)
                assert is_refused(client), (length, kind)
    assert still_lets_in(proxy)


def sasl(mechanism, data, length=None):
    return message(b"p", mechanism + b"\0" + struct.pack("!I", len(data) if length is None else length) + data)


def test_malformed_scram_packets(asks):
    """CVE-2026-6664, inside the SASL messages."""
    proxy = asks("scram-sha-256")
    first = b"n,,n=,r=abcdefgh"
    packets = [sasl(b"SCRAM-SHA-256", first, length) for length in LENGTHS]
    packets += [sasl(b"SCRAM-SHA-256", data) for data in (
        b"", b"n", b"n,", b"n,,", b"n,,n=", b"n,,n=,r=", b"y" * 60000, b"n,,n=" + b"a" * 60000 + b",r=x", b"n,,n=,r=" + b"x" * 60000,
        b"p=tls-unique,,n=,r=x", b"p=,,n=,r=x", b"n,a=boss,n=,r=x", b"\0" * 100, b"n,,m=ext,n=,r=x", b"n,,n==2C=3D,r=\xff\xfe")]
    packets += [sasl(name, first) for name in (b"", b"SCRAM-SHA-1", b"SCRAM-SHA-256-PLUS", b"x" * 60000)]
    packets += [message(b"p", b"SCRAM-SHA-256"), message(b"p", b"SCRAM-SHA-256\0\0\0")]
    for packet in packets:
        with Connection(proxy.port) as client:
            client.send(startup({"user": "postgres", "database": "postgres"}))
            client.read()
            client.send(packet)
            client.sock.shutdown(socket.SHUT_WR)
            assert is_refused(client), packet[:60]
    for final in (b"", b"c=", b"c=biws", b"c=biws,r=", b"c=biws,r=x,p=", b"c=biws,r=x,p=AAAA", b"c=" + b"A" * 60000, b"p=" + b"=" * 60000):
        with Connection(proxy.port) as client:
            client.send(startup({"user": "postgres", "database": "postgres"}))
            client.read()
            client.send(sasl(b"SCRAM-SHA-256", first))
            client.read()
            client.send(message(b"p", final))
            assert is_refused(client), final[:60]
    assert still_lets_in(proxy)


@pytest.mark.parametrize("length", [1, 1023, 1024, 1025, 2047, 2048, 9999, 60000])
@pytest.mark.parametrize("auth_type", ["scram-sha-256", "md5", "plain"])
def test_long_passwords(asks, auth_type, length):
    """PgBouncer 1.25.0 ended at passwords of 1024 bytes and more."""
    proxy = asks(auth_type)
    with pytest.raises((PgError, Closed)):
        proxy.connect("postgres", password="x" * length)
    assert still_lets_in(proxy)


def test_startup_packets(asks):
    """Hardened in PgBouncer 1.25.0: no end of strings, names without a value, unknown protocols, lengths that lie."""
    proxy = asks("md5")
    version = struct.pack("!I", 3 << 16)
    bodies = [b"", b"\0", b"user", b"user\0", b"user\0postgres", b"user\0postgres\0database", b"user\0postgres\0database\0x", b"\0\0\0\0",
              b"user\0postgres\0\0trailing", b"\xff" * 9000, (b"a\0b\0" * 2000) + b"\0"]
    packets = [struct.pack("!I", len(body) + 8) + version + body for body in bodies]
    packets += [struct.pack("!I", length) + version + b"user\0postgres\0\0" for length in LENGTHS]
    packets += [struct.pack("!II", 8, code) for code in (0, 1, 2 << 16, 4 << 16, 80877105, 0xFFFFFFFF)]
    packets += [struct.pack("!III", 12, 80877102, 1), struct.pack("!II", 16, 80877102) + b"\xff" * 8,
                struct.pack("!II", 8 + 4000, 80877102) + b"\xff" * 4000]
    for packet in packets:
        with Connection(proxy.port) as client:
            client.send(packet)
            client.sock.shutdown(socket.SHUT_WR)
            try:
                while client.sock.recv(65536):
                    pass
            except ConnectionError:
                pass
    assert still_lets_in(proxy)


@pytest.mark.parametrize("code", [SSL_REQUEST, GSS_REQUEST])
def test_bytes_in_clear_behind_a_request_for_encryption(asks, code):
    """CVE-2021-3935 and its like: what somebody put behind the request must not count as said by the client."""
    proxy = asks("md5")
    with Connection(proxy.port) as client:
        client.send(request(code) + startup({"user": "postgres", "database": "postgres"}))
        answer = b""
        try:
            while data := client.sock.recv(65536):
                answer += data
        except ConnectionError:
            pass
        # No password is asked for: at most an error comes, behind a refusal perhaps.
        assert b"R\0\0\0" not in answer
    assert still_lets_in(proxy)


def test_a_recorded_md5_exchange_is_of_no_use(asks):
    """pgagroal replays such exchanges; with a salt of its own for each login the answer to one fits no other."""
    proxy = asks("md5")
    inner = hashlib.md5(b"boss" + b"postgres").hexdigest().encode()
    salts, recorded = set(), None
    for _ in range(20):
        with Connection(proxy.port) as client:
            client.send(startup({"user": "postgres", "database": "postgres"}))
            salt = client.read().body[4:]
            salts.add(salt)
            recorded = recorded or message(b"p", b"md5" + hashlib.md5(inner + salt).hexdigest().encode() + b"\0")
            if len(salts) > 1:
                client.send(recorded)
                assert [m.fields["C"] for m in client.read_to_end() if m.type == "E"] == ["28P01"]
    assert len(salts) == 20


# --- servers that mean harm ---


class Impostor:
    """Stands between the proxy and a server.  For users called victim_* it is the server itself and does what its script says; all
    others reach the true one."""

    def __init__(self, link_port):
        self.scripts = {}
        self.target = link_port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    @staticmethod
    def _packet(sock):
        head = sock.recv(4, socket.MSG_WAITALL)
        return head + sock.recv(struct.unpack("!I", head)[0] - 4, socket.MSG_WAITALL) if len(head) == 4 else b""

    def _serve(self, client):
        client.settimeout(120)
        try:
            first = self._packet(client)
            name = next((name for name in self.scripts if b"user\0" + name.encode() + b"\0" in first), None)
            if name:
                self.scripts[name](client)
                while client.recv(65536):
                    pass
                client.close()
                return
            server = socket.create_connection(("127.0.0.1", self.target), 60)
            server.settimeout(None)
            client.settimeout(None)
            server.sendall(first)
            threading.Thread(target=self._pump, args=(server, client), daemon=True).start()
            self._pump(client, server)
        except OSError:
            client.close()

    @staticmethod
    def _pump(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for sock in (source, target):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def read_message(sock):
    head = sock.recv(5, socket.MSG_WAITALL)
    return head[:1], sock.recv(struct.unpack("!I", head[1:])[0] - 4, socket.MSG_WAITALL) if len(head) == 5 else b""


AUTH_OK = message(b"R", struct.pack("!I", 0))
READY = message(b"Z", b"I")
KEY = message(b"K", struct.pack("!II", 4711, 4712))
PARAMETERS = b"".join(message(b"S", pair) for pair in (b"server_version\x0015.0\0", b"client_encoding\0UTF8\0", b"in_hot_standby\0off\0",
                                                       b"standard_conforming_strings\0on\0", b"DateStyle\0ISO, MDY\0"))


def says(data):
    return lambda sock: sock.sendall(data)


def scram(server_first):
    """Begins SCRAM and answers the client's nonce with what the function makes of it."""
    def script(sock):
        sock.sendall(message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"))
        _, body = read_message(sock)
        nonce = body.rsplit(b"r=", 1)[1]
        sock.sendall(message(b"R", struct.pack("!I", 11) + server_first(nonce)))
    return script


def answers(data):
    """Logs in properly, and answers every query with this."""
    def script(sock):
        sock.sendall(AUTH_OK + PARAMETERS + KEY + READY)
        while read_message(sock)[0]:
            sock.sendall(data)
    return script


SALT = b"s=QUJDREVGR0g=,i=4096"
FULL = b"SERROR\0VERROR\0C22012\0Mdivision by zero\0\0"
AT_LOGIN = {
    # CVE-2026-6665: the nonce went into a buffer of fixed size
    "nonce of 2 kB": scram(lambda nonce: b"r=" + nonce + b"A" * 2000 + b"," + SALT),
    "nonce of 60 kB": scram(lambda nonce: b"r=" + nonce + b"A" * 60000 + b"," + SALT),
    "nonce of 5 MB": scram(lambda nonce: b"r=" + nonce + b"A" * 5000000 + b"," + SALT),
    "salt of 60 kB": scram(lambda nonce: b"r=" + nonce + b"x,s=" + b"QUJD" * 15000 + b",i=4096"),
    "iterations without end": scram(lambda nonce: b"r=" + nonce + b"x,s=QUJD,i=4294967295"),
    "no iterations": scram(lambda nonce: b"r=" + nonce + b"x,s=QUJD,i=0"),
    "another nonce": scram(lambda nonce: b"r=other," + SALT),
    "empty SASL": scram(lambda nonce: b""),
    # CVE-2026-6666: no SQLSTATE in the error
    "error without SQLSTATE": says(message(b"E", b"SFATAL\0Mno\0\0")),
    "error without anything": says(message(b"E", b"\0")),
    "error without an end": says(message(b"E", b"SFATAL\0Mno")),
    "empty error": says(message(b"E")),
    "error with an empty SQLSTATE": says(message(b"E", b"SFATAL\0C\0Mno\0\0")),
    "error with a long SQLSTATE": says(message(b"E", b"SFATAL\0C" + b"X" * 5000 + b"\0M" + b"m" * 60000 + b"\0\0")),
    "notice without fields": says(message(b"N", b"\0") + message(b"N") + message(b"E", b"\0")),
    "short authentication": says(message(b"R")),
    "unknown authentication": says(message(b"R", struct.pack("!I", 99))),
    "md5 without salt": says(message(b"R", struct.pack("!I", 5))),
    "SASL without mechanisms": says(message(b"R", struct.pack("!I", 10))),
    "parameter without value": says(AUTH_OK + message(b"S", b"x\0") + READY),
    "parameter without an end": says(AUTH_OK + message(b"S", b"x") + READY),
    "empty parameter": says(AUTH_OK + message(b"S") + READY),
    "short key": says(AUTH_OK + message(b"K", b"\0\0") + READY),
    "long key": says(AUTH_OK + PARAMETERS + message(b"K", b"\0" * 4 + b"k" * 60000) + READY),
    "ready without state": says(AUTH_OK + message(b"Z")),
    "rows before ready": says(AUTH_OK + message(b"D", b"\0\1\xff\xff\xff\xff") + READY),
    **{f"length {length:#x}": says(message(b"E", b"SFATAL\0", length)) for length in LENGTHS if length not in (0xFFFF, 0x10001)},
}
IN_A_QUERY = {
    "error without SQLSTATE": answers(message(b"E", b"SERROR\0Mno\0\0") + READY),
    "error without anything": answers(message(b"E", b"\0") + READY),
    "empty error": answers(message(b"E") + READY),
    "error without an end": answers(message(b"E", b"SERROR\0Mno") + READY),
    "notice without fields": answers(message(b"N", b"\0") + message(b"N") + message(b"E", FULL) + READY),
    "parameter without value": answers(message(b"S", b"x\0") + message(b"E", FULL) + READY),
    "no tag": answers(message(b"C") + READY),
    "tag without an end": answers(message(b"C", b"SELECT") + READY),
    "ready without state": answers(message(b"C", b"SELECT 1\0") + message(b"Z")),
    "ready in a state unknown": answers(message(b"C", b"SELECT 1\0") + message(b"Z", b"?")),
    "short notification": answers(message(b"A", b"\0") + message(b"E", FULL) + READY),
    "copy for nobody": answers(message(b"G", b"\0\0\0") + READY),
    "a message of no type": answers(message(b"\0", b"abc") + READY),
    **{f"length {length:#x}": answers(message(b"T", b"\0\0", length)) for length in (0, 3, 0x80000000, 0xFFFFFFFF)},
}


@pytest.fixture(scope="module")
def impostor(shared_cluster):
    """The proxy, whose databases login_N and query_N belong to the victims of the scripts."""
    false = Impostor(shared_cluster.primary.port)
    databases = {}
    for prefix, scripts in (("login", AT_LOGIN), ("query", IN_A_QUERY)):
        for number, script in enumerate(scripts.values()):
            false.scripts[f"victim_{prefix}_{number}_"] = script
            databases[f"{prefix}_{number}"] = f"dbname=postgres user=victim_{prefix}_{number}_ password=secret"
    settings = {"server_connect_timeout": 3, "query_wait_timeout": 6, "server_login_retry": 1, "query_timeout": 6, "route": "primary",
                "failover_timeout": "3s"}
    with Pgweir(shared_cluster, hosts=[false.port], settings=settings, databases=databases) as proxy:
        yield proxy
    false.listener.close()


def ask_all(proxy, prefix, scripts):
    """All at once, since each takes as long as a time-out; {what: messages until the end}."""
    clients = {}
    for number, name in enumerate(scripts):
        clients[name] = Connection(proxy.port)
        clients[name].send(startup({"user": "postgres", "database": f"{prefix}_{number}"}), query("select 1"), wire.terminate())
    answers = {name: client.read_to_end() for name, client in clients.items()}
    for client in clients.values():
        client.close()
    return answers


def test_servers_that_say_strange_things_at_login(impostor):
    """CVE-2026-6665 and CVE-2026-6666, and every other message that a server may send wrongly before it lets us in."""
    for name, answers in ask_all(impostor, "login", AT_LOGIN).items():
        assert not [m for m in answers if m.type == "D"], name
        assert [m for m in answers if m.type == "E"], name
    assert is_well(impostor)


def test_servers_that_answer_strangely(impostor):
    """The client gets an answer or loses its connection, and nobody else notices."""
    for name, answers in ask_all(impostor, "query", IN_A_QUERY).items():
        assert not [m for m in answers if m.type == "D"], name
    assert is_well(impostor)


@pytest.mark.parametrize("answer", [
    b"S" + AUTH_OK + PARAMETERS + KEY + READY,      # CVE-2021-23222: bytes in clear behind the answer
    message(b"E", b"SERROR\0C08P01\0M" + b"m" * 200000 + b"\0\0"),  # like CVE-2024-10977: an error by somebody in the middle
    b"E" * 70000, b"\0", b"X", b"SS",
], ids=["bytes behind S", "a long error", "E without end", "zero", "unknown", "twice"])
def test_answers_to_the_request_for_encryption(cluster, answer):
    class Middle(Impostor):
        def _serve(self, client):
            try:
                if b"\x04\xd2\x16\x2f" in self._packet(client):  # an SSLRequest
                    client.sendall(answer)
                client.settimeout(30)
                while client.recv(65536):
                    pass
            except OSError:
                pass
            client.close()
    middle = Middle(cluster.primary.port)
    with Link(cluster.primary.port), \
            Pgweir(cluster, settings={"server_tls_sslmode": "require", "failover_timeout": "2s", "query_wait_timeout": 2,
                                      "server_connect_timeout": 2, "server_login_retry": 1}, hosts=[middle.port]) as proxy:
        with pytest.raises((PgError, Closed)):
            proxy.value("select 1")
        assert proxy.process.poll() is None
        assert proxy.admin("show version")
    middle.listener.close()


# --- others' rows, others' passwords ---


def test_rows_of_another_role_are_never_shown(pgweir, cluster, database):
    """CVE-2024-45624: a cache served rows after REVOKE, after SET ROLE and across policies. Statements are shared here, rows are not."""
    cluster.primary.query("""
create table notes(owner name, note text); insert into notes values ('plain_user', 'of plain'), ('monitor_user', 'of monitor');
alter table notes enable row level security; create policy own on notes using (owner = current_user);
grant select on notes to plain_user, monitor_user
""", database=database)
    cluster.settle()
    proxy = pgweir(settings={"unnamed_statement_cache": 1, "default_pool_size": 1},
                   databases={"forced": f"dbname={database} user=postgres"})
    sql = "select note from notes order by 1"
    for _ in range(3):
        for user, note in (("plain_user", "of plain"), ("monitor_user", "of monitor")):
            with proxy.connect(user, database) as client:
                client.send(wire.extended(sql), wire.sync())
                assert f"D {note}" in client.brief_until_ready()
                client.send(wire.parse("s", sql), wire.bind("", "s"), wire.execute(), wire.sync())
                assert [b for b in client.brief_until_ready() if b.startswith("D")] == [f"D {note}"]
    with proxy.connect("postgres", "forced") as first, proxy.connect("postgres", "forced") as second:
        first.query("set role plain_user")
        second.query("set role monitor_user")
        for _ in range(3):
            for client, note in ((first, "of plain"), (second, "of monitor")):
                assert client.value(sql) == note
                client.send(wire.extended(sql), wire.sync())
                assert [b for b in client.brief_until_ready() if b.startswith("D")] == [f"D {note}"]
    with proxy.connect("plain_user", database) as client:
        assert client.value(sql) == "of plain"
        cluster.primary.query("revoke select on notes from plain_user", database=database)
        assert client.query(sql, check=False).sqlstate == "42501"


def test_no_table_shows_a_password(pgweir, cluster):
    """CVE-2023-22332: anybody was shown a password of the configuration."""
    secrets = ["watch the dog", "into the server", PASSWORD]
    proxy = pgweir(settings={"monitor_user": "scram_user", "monitor_password": PASSWORD, "stats_users": "plain_user"},
                   databases={"shop": "dbname=postgres user=postgres password='into the server'"}, accounts={"plain_user": "watch the dog"})
    with proxy.connect("plain_user", "shop") as client:
        client.query("select 1")
        for user in ("plain_user", "postgres"):
            with proxy.connect(user, "pgbouncer") as console:
                for table in ("clients servers config databases pools fds users lists stats sockets active_sockets replicas queries "
                              "applications workers state mem peers pins routes").split():
                    shown = repr(console.query(f"show {table}", check=False).rows)
                    assert not [secret for secret in secrets if secret in shown], table
    assert not [secret for secret in secrets if secret in proxy.log_text()]
