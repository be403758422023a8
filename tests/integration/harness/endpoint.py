"""Something that one can connect to with PostgreSQL's protocol: a server, the proxy, or another proxy in its place."""
from urllib.parse import quote, urlencode

from . import wire


def conninfo(**words):
    """A libpq connection string; values are quoted."""
    return " ".join(f"{name}='{str(value).replace(chr(92), chr(92) * 2).replace(chr(39), chr(92) + chr(39))}'"
                    for name, value in words.items())


class Endpoint:
    """Wants `port`, and may set `host`."""

    host = "127.0.0.1"
    port = 0

    def connect(self, user="postgres", database="postgres", password=None, **parameters):
        """A raw client, logged in; parameters go into the start-up packet."""
        return wire.Connection.login(self.port, user, database, password, host=self.host, **parameters)

    def query(self, sql, database="postgres", user="postgres", **parameters):
        """Rows of a simple query on a connection of its own, as text."""
        with self.connect(user, database, **parameters) as connection:
            return connection.query(sql).rows

    def value(self, sql, database="postgres", user="postgres", **parameters):
        """The first column of the first row."""
        return self.query(sql, database, user, **parameters)[0][0]

    def dsn(self, database="postgres", user="postgres", **more):
        """For libpq and what stands on it."""
        return conninfo(**{"host": self.host, "port": self.port, "dbname": database, "user": user, "sslmode": "disable", **more})

    def url(self, database="postgres", user="postgres", password=None, scheme="postgresql", **more):
        """For drivers that want a URL."""
        account = quote(user, safe="") + (":" + quote(password, safe="") if password is not None else "")
        return f"{scheme}://{account}@{self.host}:{self.port}/{database}" + ("?" + urlencode(more) if more else "")
