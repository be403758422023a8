"""What a reload changes under clients that stay connected."""
import pytest
from harness.wire import PgError


class TestDatabaseChanges:
    """Server connections made under the old settings serve nobody once they are free."""

    def test_another_database(self, pgweir, cluster, database):
        proxy = pgweir(databases={"shop": "dbname=postgres"})
        with proxy.connect(database="shop") as client:
            assert client.value("select current_database()") == "postgres"
            proxy.sections["databases"]["shop"] = f"dbname={database}"
            proxy.reload()
            assert client.value("select current_database()") == database
            assert proxy.value("select current_database()", "shop") == database

    def test_another_user(self, pgweir):
        proxy = pgweir(databases={"shop": "dbname=postgres user=plain_user"})
        with proxy.connect(database="shop") as client:
            assert client.value("select current_user") == "plain_user"
            proxy.sections["databases"]["shop"] = "dbname=postgres user=monitor_user"
            proxy.reload()
            assert client.value("select current_user") == "monitor_user"

    @pytest.mark.parametrize("key, setting, values", [
        ("timezone", "TimeZone", ["Asia/Tokyo", "Europe/Rome"]), ("datestyle", "DateStyle", ["German, DMY", "SQL, MDY"])])
    def test_start_values(self, pgweir, key, setting, values):
        proxy = pgweir(databases={"shop": {"dbname": "postgres", key: f"'{values[0]}'"}})
        with proxy.connect(database="shop") as client:
            assert client.value(f"show {setting}") == values[0]
            proxy.sections["databases"]["shop"] = {"dbname": "postgres", key: f"'{values[1]}'"}
            proxy.reload()
            with proxy.connect(database="shop") as fresh:
                assert fresh.parameters[setting] == values[1]
                assert fresh.value(f"show {setting}") == values[1]

    def test_connect_query(self, pgweir):
        proxy = pgweir(databases={"shop": {"dbname": "postgres", "connect_query": "'set work_mem = 5000'"}})
        with proxy.connect(database="shop") as client:
            assert client.value("show work_mem") == "5000kB"
            proxy.sections["databases"]["shop"] = {"dbname": "postgres", "connect_query": "'set work_mem = 6000'"}
            proxy.reload()
            assert client.value("show work_mem") == "6000kB"

    def test_session_mode_keeps_its_server(self, pgweir, cluster, database):
        """A session's state is the client's: its server stays until it leaves, RECONNECT or not."""
        proxy = pgweir(databases={"shop": "dbname=postgres"}, settings={"pool_mode": "session"})
        with proxy.connect(database="shop") as client:
            client.query("set work_mem = 4444")
            proxy.admin("RECONNECT")
            assert client.value("show work_mem") == "4444kB"
            proxy.sections["databases"]["shop"] = f"dbname={database}"
            proxy.reload()
            assert client.query("select current_database(), current_setting('work_mem')").rows == [("postgres", "4444kB")]
            assert proxy.value("select current_database()", "shop") == database

    def test_fast_close(self, pgweir):
        """server_fast_close: not so. A transaction is let end."""
        proxy = pgweir(settings={"pool_mode": "session", "server_fast_close": 1})
        with proxy.connect() as idle, proxy.connect() as busy:
            idle.query("select 1")
            busy.query("begin; select 1")
            proxy.admin("RECONNECT")
            assert idle.read_to_end()[-1].fields["C"] == "57P01"
            assert busy.value("select 2") == "2"
            busy.query("commit")
            assert busy.read_to_end()[-1].fields["C"] == "57P01"
