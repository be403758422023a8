"""A raw client of PostgreSQL's protocol: it sends what it is told, in the pieces it is told, and reads message by message.

Nothing here repairs, retries or hides: that is what the tests are for.  Names follow the protocol's documentation.

    with Connection.login(port, user="postgres", database="app") as c:
        c.send(parse("", "select $1::int"), bind("", "", ["42"]), execute(), sync())
        assert c.brief_until_ready() == ["1", "2", "D 42", "C SELECT 1", "Z I"]"""
import base64
import hashlib
import hmac
import os
import re
import socket
import ssl
import struct
import time
from typing import NamedTuple

PROTOCOL_3_0 = 196608
PROTOCOL_3_2 = 196610
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102


class PgError(Exception):
    """An ErrorResponse where none was expected."""

    def __init__(self, fields):
        super().__init__(f"{fields.get('S')} {fields.get('C')} {fields.get('M')}")
        self.fields = fields
        self.sqlstate = fields.get("C")


class Closed(Exception):
    """The other side closed the connection between messages."""


# --- messages of the frontend ---


def message(kind, body=b""):
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def cstring(text):
    return (text if isinstance(text, bytes) else text.encode()) + b"\0"


def query(sql):
    return message("Q", cstring(sql))


def parse(name, sql, oids=()):
    return message("P", cstring(name) + cstring(sql) + struct.pack(f"!H{len(oids)}I", len(oids), *oids))


def _values(values):
    parts = [struct.pack("!H", len(values))]
    for value in values:
        if value is None:
            parts.append(struct.pack("!i", -1))
        else:
            data = value if isinstance(value, bytes) else str(value).encode()
            parts.append(struct.pack("!i", len(data)) + data)
    return b"".join(parts)


def _formats(formats):
    return struct.pack(f"!H{len(formats)}H", len(formats), *formats)


def bind(portal="", statement="", values=(), formats=(), result_formats=()):
    return message("B", cstring(portal) + cstring(statement) + _formats(formats) + _values(values) + _formats(result_formats))


def describe(kind, name=""):
    return message("D", kind.encode() + cstring(name))


def execute(portal="", max_rows=0):
    return message("E", cstring(portal) + struct.pack("!I", max_rows))


def close(kind, name=""):
    return message("C", kind.encode() + cstring(name))


def sync():
    return message("S")


def flush():
    return message("H")


def copy_data(data):
    return message("d", data if isinstance(data, bytes) else data.encode())


def copy_done():
    return message("c")


def copy_fail(reason):
    return message("f", cstring(reason))


def function_call(oid, values=(), formats=(), result_format=0):
    return message("F", struct.pack("!I", oid) + _formats(formats) + _values(values) + struct.pack("!H", result_format))


def terminate():
    return message("X")


def extended(sql, values=(), statement="", portal=""):
    """Parse, Bind, Describe, Execute of one statement, without a Sync."""
    return (parse(statement, sql) + bind(portal, statement, values) + describe("P", portal) + execute(portal))


def startup(parameters, protocol=PROTOCOL_3_0):
    body = struct.pack("!I", protocol) + b"".join(cstring(k) + cstring(v) for k, v in parameters.items()) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def request(code, body=b""):
    """SSLRequest, GSSENCRequest, CancelRequest: a length, a code, and no type."""
    return struct.pack("!II", len(body) + 8, code) + body


# --- messages of the backend ---


class Message(NamedTuple):
    """One message from the server."""

    type: str
    body: bytes

    @property
    def fields(self):
        """Fields of an error or a notice by their letter."""
        return {part[:1].decode(): part[1:].decode(errors="replace") for part in self.body.split(b"\0") if part}

    @property
    def values(self):
        """Columns of a DataRow as text, None for null."""
        result, at = [], 2
        for _ in range(struct.unpack_from("!H", self.body)[0]):
            length = struct.unpack_from("!i", self.body, at)[0]
            at += 4
            result.append(None if length < 0 else self.body[at:at + length].decode(errors="replace"))
            at += max(length, 0)
        return tuple(result)

    @property
    def columns(self):
        """Names of a RowDescription."""
        names, at = [], 2
        for _ in range(struct.unpack_from("!H", self.body)[0]):
            end = self.body.index(b"\0", at)
            names.append(self.body[at:end].decode())
            at = end + 19
        return names

    @property
    def text(self):
        """The first string of the body: a command tag, a status, ..."""
        return self.body.split(b"\0", 1)[0].decode(errors="replace")

    @property
    def brief(self):
        """The message in a few letters, for comparing whole conversations."""
        if self.type == "D":
            return "D " + ",".join("null" if v is None else v for v in self.values)
        if self.type in "EN":
            return f"{self.type} {self.fields.get('C')}"
        if self.type in "CZd":
            return f"{self.type} {self.text}"
        if self.type == "S":
            return "S " + "=".join(self.body.decode().split("\0")[:2])
        if self.type == "A":
            return "A " + self.body[4:].decode().replace("\0", " ").strip()
        return self.type


class Result:
    """What a cycle up to ReadyForQuery brought."""

    def __init__(self, messages):
        self.messages = messages
        self.rows = [m.values for m in messages if m.type == "D"]
        self.tags = [m.text for m in messages if m.type == "C"]
        self.errors = [m.fields for m in messages if m.type == "E"]
        self.notices = [m.fields for m in messages if m.type == "N"]
        self.columns = next((m.columns for m in messages if m.type == "T"), [])
        self.status = messages[-1].text if messages and messages[-1].type == "Z" else None

    @property
    def dicts(self):
        return [dict(zip(self.columns, row)) for row in self.rows]

    @property
    def sqlstate(self):
        return self.errors[0]["C"] if self.errors else None

    @property
    def brief(self):
        return [m.brief for m in self.messages]


def brief(messages):
    return [m.brief for m in messages]


class Connection:
    """A socket to a server or a proxy, with the bytes read ahead."""

    def __init__(self, port, host="127.0.0.1", timeout=60.0):
        self.host, self.port, self.timeout = host, port, timeout
        if str(host).startswith("/"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout)
            self.sock.connect(f"{host}/.s.PGSQL.{port}")
        else:
            self.sock = socket.create_connection((host, port), timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.parameters = {}
        self.pid = None
        self.key = b""
        self.backlog = b""

    @classmethod
    def login(cls, port, user="postgres", database="postgres", password=None, host="127.0.0.1", timeout=60.0, tls=None,
              protocol=PROTOCOL_3_0, **parameters):
        """Connects, with TLS if given an ssl.SSLContext, and authenticates; returns when ready for a query."""
        connection = cls(port, host, timeout)
        try:
            if tls is not None:
                answer = connection.request_tls()
                assert answer == b"S", f"TLS refused: {answer!r}"
                connection.start_tls(tls)
            connection.send(startup({"user": user, "database": database, **parameters}, protocol))
            connection.authenticate(user, password)
            connection.read_until_ready(welcome=True)
        except BaseException:
            connection.close()
            raise
        return connection

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # sending

    def send(self, *parts):
        """Everything in one write."""
        self.sock.sendall(b"".join(parts))

    def send_split(self, data, size=1):
        """The same bytes in pieces of `size`, each of which the other side reads before the next one is sent."""
        ends = self.sock.getpeername()[1], self.sock.getsockname()[1]
        for at in range(0, len(data), size):
            self.sock.sendall(data[at:at + size])
            self._wait_until_read(ends)

    @staticmethod
    def _wait_until_read(ends):
        """By the kernel's account of the peer's receive queue; gives up soon, since a peer may rightly stop reading."""
        deadline = time.monotonic() + 0.5
        while unread_bytes(*ends) and time.monotonic() < deadline:
            time.sleep(0)

    # reading

    def _receive(self, count):
        while len(self.backlog) < count:
            data = self.sock.recv(max(65536, count - len(self.backlog)))
            if not data:
                if self.backlog:
                    raise AssertionError(f"closed in the middle of a message: {self.backlog[:50]!r}")
                raise Closed()
            self.backlog += data
        result, self.backlog = self.backlog[:count], self.backlog[count:]
        return result

    def read_byte(self):
        """The answer to SSLRequest and GSSENCRequest, which is no message."""
        return self._receive(1)

    def read(self):
        """The next message.  ParameterStatus and BackendKeyData are noted in passing."""
        head = self._receive(5)
        kind, length = chr(head[0]), struct.unpack("!I", head[1:])[0]
        assert length >= 4, f"impossible length {length} of message {kind!r}"
        found = Message(kind, self._receive(length - 4))
        if kind == "S":
            name, value = found.body.decode().split("\0")[:2]
            self.parameters[name] = value
        elif kind == "K":
            self.pid, self.key = struct.unpack_from("!I", found.body)[0], found.body[4:]
        return found

    def read_until(self, *types):
        """Messages up to and with the first of one of these types."""
        messages = [self.read()]
        while messages[-1].type not in types:
            messages.append(self.read())
        return messages

    def read_until_ready(self, welcome=False):
        messages = [self.read()]
        while messages[-1].type != "Z":
            if welcome and messages[-1].type == "E":
                raise PgError(messages[-1].fields)
            messages.append(self.read())
        return messages

    def brief_until_ready(self):
        """One cycle in a few letters, without ParameterStatus (which may come at any time)."""
        return [m.brief for m in self.read_until_ready() if m.type != "S"]

    def read_to_end(self):
        """Messages until the other side closes."""
        messages = []
        try:
            while True:
                messages.append(self.read())
        except (Closed, ConnectionResetError):
            return messages

    def is_closed(self):
        """Waits for the other side to close; fails on any other byte."""
        try:
            return not self.backlog and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def nothing_comes(self, seconds=0.3):
        """True if nothing arrives within a while.  The one use of time here: it can only pass wrongly, never fail."""
        if self.backlog:
            return False
        self.sock.settimeout(seconds)
        try:
            self.backlog += self.sock.recv(1)
            return False
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(self.timeout)

    # whole cycles

    def query(self, sql, check=True):
        """A simple query; raises PgError on an error unless check=False."""
        self.send(query(sql))
        return self._result(check)

    def extended(self, sql, values=(), statement="", check=True):
        """The same by the extended protocol."""
        self.send(extended(sql, values, statement), sync())
        return self._result(check)

    def _result(self, check):
        result = Result(self.read_until_ready())
        if check and result.errors:
            raise PgError(result.errors[0])
        return result

    def value(self, sql):
        """The first column of the first row."""
        return self.query(sql).rows[0][0]

    # start-up

    def request_tls(self):
        self.send(request(SSL_REQUEST))
        return self.read_byte()

    def start_tls(self, context, server_hostname=None):
        assert not self.backlog, f"bytes before TLS: {self.backlog!r}"
        self.sock = context.wrap_socket(self.sock, server_hostname=server_hostname or self.host)

    def authenticate(self, user, password):
        """Answers what the server asks for, up to AuthenticationOk."""
        scram = None
        while True:
            got = self.read()
            if got.type == "E":
                raise PgError(got.fields)
            if got.type == "v":
                continue
            assert got.type == "R", f"unexpected message {got} during authentication"
            code = struct.unpack_from("!I", got.body)[0]
            if code == 0:
                assert scram is None or scram.verified, "the server did not prove itself"
                return
            if code == 3:
                self.send(message("p", cstring(password or "")))
            elif code == 5:
                self.send(message("p", cstring(md5_answer(user, password or "", got.body[4:8]))))
            elif code == 10:
                scram = Scram(password)
                first = scram.first()
                self.send(message("p", cstring("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first))
            elif code == 11:
                self.send(message("p", scram.final(got.body[4:])))
            elif code == 12:
                scram.verify(got.body[4:])
            else:
                raise AssertionError(f"authentication request {code}")

    # the end

    def cancel(self, key=None):
        """Sends a CancelRequest for this connection and waits until it has been taken."""
        with Connection(self.port, self.host, self.timeout) as other:
            other.send(request(CANCEL_REQUEST, struct.pack("!I", self.pid) + (self.key if key is None else key)))
            assert other.is_closed()

    def close(self):
        """An orderly end: Terminate, then close."""
        try:
            self.send(terminate())
        except (OSError, ValueError):
            pass
        self.sock.close()

    def drop(self):
        """Closes without a word."""
        self.sock.close()

    def reset(self):
        """Closes with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def unread_bytes(local_port, remote_port):
    """Bytes that have reached a TCP socket of this machine and wait to be read there."""
    ends = f":{local_port:04X}", f":{remote_port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in table:
            words = line.split()
            if words[1].endswith(ends[0]) and words[2].endswith(ends[1]):
                return int(words[4].split(":")[1], 16)
    return 0


def md5_answer(user, password, salt):
    inner = hashlib.md5((password + user).encode()).hexdigest()
    return "md5" + hashlib.md5(inner.encode() + salt).hexdigest()


class Scram:
    """The client's half of SCRAM-SHA-256, without channel binding."""

    def __init__(self, password):
        self.password = (password or "").encode()
        self.nonce = base64.b64encode(os.urandom(18)).decode()
        self.verified = False
        self._signature = b""

    def _bare(self):
        return f"n=,r={self.nonce}"

    def first(self):
        return ("n,," + self._bare()).encode()

    def final(self, challenge):
        challenge = challenge.decode()
        found = re.fullmatch(r"r=([^,]+),s=([^,]+),i=(\d+)", challenge)
        assert found and found.group(1).startswith(self.nonce), f"bad SCRAM challenge {challenge!r}"
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(found.group(2)), int(found.group(3)))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c=biws,r={found.group(1)}"
        signed = f"{self._bare()},{challenge},{without_proof}".encode()
        proof = bytes(a ^ b for a, b in zip(client_key, hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")))
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, answer):
        assert answer == b"v=" + base64.b64encode(self._signature), "the server's SCRAM signature is wrong"
        self.verified = True


def tls_context(ca=None, certificate=None, key=None, check_hostname=True):
    """A client's TLS settings: with a CA the server is verified, without one anything goes (sslmode=require)."""
    context = ssl.create_default_context(cafile=ca)
    if ca is None or not check_hostname:
        context.check_hostname = False
    if ca is None:
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate, key)
    return context
