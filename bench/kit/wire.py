"""Just enough of a PostgreSQL client to push and pull gigabytes at a chosen pace, plain or over TLS, in little memory."""
import socket
import ssl
import struct
import time

from . import cluster

CHUNK = 1 << 18


class Client:
    def __init__(self, port, tls=False, user=cluster.USER, db=cluster.DB, source=None):
        """source: the local address; one has some 28,000 ports."""
        self.sock = socket.create_connection(("127.0.0.1", port), 60, (source, 0) if source else None)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.sock.sendall(struct.pack("!ii", 8, 80877103))
            if self.sock.recv(1) != b"S":
                raise RuntimeError("TLS is refused")
            ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
            self.sock = ctx.wrap_socket(self.sock)
        self.rest = b""
        body = struct.pack("!i", 196608) + b"".join(s.encode() + b"\0" for s in ("user", user, "database", db)) + b"\0"
        self.sock.sendall(struct.pack("!i", len(body) + 4) + body)
        self.until(b"Z")

    def send(self, kind, body):
        self.sock.sendall(kind + struct.pack("!i", len(body) + 4) + body)

    def until(self, kinds, bytes_per_second=None):
        """Read and forget, up to a message of one of these kinds; returns the bytes of DataRow and CopyData seen.

        Only headers are looked at. An ErrorResponse raises.
        """
        buf, payload, started, received = self.rest, 0, time.monotonic(), 0
        while True:
            pos, left = 0, 0
            while len(buf) - pos >= 5:
                kind, size = buf[pos:pos + 1], struct.unpack_from("!i", buf, pos + 1)[0] + 1
                whole = len(buf) - pos >= size
                if not whole and kind in b"Dd":
                    # A large row need not be gathered: count it and skip what is still to come.
                    payload += size
                    left = size - (len(buf) - pos)
                    pos = len(buf)
                    break
                if not whole:
                    break
                if kind == b"E":
                    raise RuntimeError(buf[pos + 5:pos + size].replace(b"\0", b" ").decode(errors="replace"))
                if kind in b"Dd":
                    payload += size
                pos += size
                if kind in kinds:
                    self.rest = buf[pos:]
                    return payload
            buf = buf[pos:]
            while True:
                if bytes_per_second:
                    ahead = received / bytes_per_second - (time.monotonic() - started)
                    if ahead > 0:
                        time.sleep(ahead)
                data = self.sock.recv(CHUNK)
                if not data:
                    raise RuntimeError("the connection was closed")
                received += len(data)
                if left < len(data):
                    break
                left -= len(data)
            buf += data[left:]

    def query(self, sql, bytes_per_second=None):
        self.send(b"Q", sql.encode() + b"\0")
        return self.until(b"Z", bytes_per_second)

    def copy_in(self, sql, total, row=b"x" * 1023 + b"\n", rows_per_message=8):
        """COPY ... FROM STDIN of `total` bytes, each CopyData of rows_per_message rows."""
        self.send(b"Q", sql.encode() + b"\0")
        self.until(b"G")
        data = row * rows_per_message
        message = b"d" + struct.pack("!i", len(data) + 4) + data
        batch = message * max(1, CHUNK // len(message))
        per_batch = len(data) * (len(batch) // len(message))
        sent = 0
        while sent < total:
            self.sock.sendall(batch)
            sent += per_batch
        self.send(b"c", b"")
        self.until(b"Z")
        return sent

    def close(self):
        try:
            self.send(b"X", b"")
        except OSError:
            pass
        self.sock.close()
