"""The console as pgjdbc and PgBouncer's exporter use it, and what a scrape costs with thousands of clients connected.

Only in make test-long: a Java compiler and 5,000 connections are too much for each change."""
import contextlib
import os
import pathlib
import resource
import shutil
import socket

import pytest
from harness import wire
from harness.proxy import Pgweir
from harness.system import wait_until

pytestmark = pytest.mark.long

JAR = pathlib.Path("/usr/share/java/postgresql.jar")
CLIENTS = 5000
SCRAPES = 30

PROGRAM = """
import java.sql.*;

public class Console {
    public static void main(String[] args) throws Exception {
        for (String mode : new String[] { "simple", "extended", "extendedForPrepared", "extendedCacheEverything" }) {
            try (Connection c = DriverManager.getConnection(args[0] + "&preferQueryMode=" + mode, "postgres", "")) {
                for (int i = 0; i < 8; i++) {  // a prepared statement is named after five
                    for (String table : args[1].split(" ")) {
                        try (PreparedStatement s = c.prepareStatement("SHOW " + table); ResultSet r = s.executeQuery()) {
                            int n = r.getMetaData().getColumnCount();
                            while (r.next())
                                for (int k = 1; k <= n; k++) r.getString(k);
                        }
                    }
                }
                try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SHOW POOLS")) {
                    if (!r.next()) throw new RuntimeException("no pools");
                    System.out.println(mode + " " + r.getString("database") + " " + r.getInt("cl_active") + " " + r.getLong("maxwait_us"));
                }
                try (PreparedStatement s = c.prepareStatement("SHOW STATS"); ResultSet r = s.executeQuery()) {
                    r.next();
                    if (r.getBigDecimal("total_query_count") == null) throw new RuntimeException("no count");
                }
                try (Statement s = c.createStatement()) {
                    s.execute("SHOW NOTHING");
                    throw new RuntimeException("no error");
                } catch (SQLException e) {
                    if (!"42704".equals(e.getSQLState())) throw e;
                }
                try (Statement s = c.createStatement()) { s.execute("RELOAD"); }
                c.setAutoCommit(false);
                try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SHOW VERSION")) { r.next(); }
                c.commit();
            }
        }
    }
}
"""
TABLES = ("STATS STATS_TOTALS STATS_AVERAGES TOTALS POOLS DATABASES CLIENTS SERVERS SOCKETS USERS LISTS CONFIG VERSION STATE MEM PEERS "
          "PEER_POOLS DNS_HOSTS DNS_ZONES FDS REPLICAS QUERIES APPLICATIONS LATENCIES ADVICE WORKERS ROUTES PINS HOST_POOLS")


def test_pgjdbc(shared_cluster, tmp_path):
    assert shutil.which("javac") and JAR.exists(), "tests/deps.sh long installs a Java compiler and pgjdbc"
    with Pgweir(shared_cluster) as proxy, proxy.connect() as client:
        client.query("select 1")
        tmp_path.chmod(0o755)
        (tmp_path / "Console.java").write_text(PROGRAM)
        workspace = proxy.workspace
        folder = workspace.folder("java")
        workspace.write(folder / "Console.java", PROGRAM)
        workspace.run("javac", "-d", folder, folder / "Console.java")
        output = workspace.run("java", "-cp", f"{folder}:{JAR}", "Console",
                               f"jdbc:postgresql://127.0.0.1:{proxy.port}/pgbouncer?sslmode=disable", TABLES)
    assert [line.split()[0] for line in output.splitlines()] == ["simple", "extended", "extendedForPrepared", "extendedCacheEverything"]


def test_the_exporters_queries(shared_cluster):
    """What its collector asks for, by name, after the start-up packet of lib/pq."""
    wanted = {
        "SHOW STATS_TOTALS": "database query_count query_time bytes_received bytes_sent wait_time xact_count xact_time client_parse_count "
                             "server_parse_count bind_count server_assignment_count",
        "SHOW POOLS": "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel "
                      "sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait",
        "SHOW DATABASES": "name host port database force_user pool_size pool_mode max_connections current_connections paused disabled",
    }
    with Pgweir(shared_cluster) as proxy, proxy.connect() as client:
        client.query("select 1")
        with proxy.connect("postgres", "pgbouncer", extra_float_digits="2", datestyle="ISO, MDY", client_encoding="UTF8") as exporter:
            assert exporter.query("SHOW STATS").rows
            for sql, columns in wanted.items():
                result = exporter.query(sql)
                assert set(columns.split()) <= set(result.columns) and result.rows
                for row in result.dicts:
                    for column in columns.split():
                        if column not in ("database", "user", "name", "host", "force_user", "pool_mode"):
                            float(row[column] or 0)
            assert len(exporter.query("SHOW LISTS").columns) == 2
            config = exporter.query("SHOW CONFIG")
            assert len(config.columns) in (3, 4)
            values = {row["key"]: row["value"] for row in config.dicts}
            assert float(values["max_client_conn"]) > 0 and float(values["max_user_connections"]) >= 0
            assert "PgBouncer 1." in exporter.value("SHOW VERSION")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_scrape_costs_less_than_a_hundredth_of_a_processor(shared_cluster):
    """At one scrape per second, with 5,000 clients connected: less than 10 ms of CPU each, all threads together."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(CLIENTS + 500, resource.getrlimit(resource.RLIMIT_NOFILE)[0]),) * 2)
    with Pgweir(shared_cluster, settings={"max_client_conn": CLIENTS + 100}, http=True, build="release") as proxy, contextlib.ExitStack() as stack:
        for i in range(CLIENTS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port)))
            connection.sendall(wire.startup({"user": "postgres", "database": "postgres", "application_name": f"app{i % 50}"}))
        wait_until(lambda: proxy.http_get("/health")[1]["clients"] >= CLIENTS, "all are connected", timeout=120)
        for path in ("/metrics", "/api/live"):
            before = cpu_seconds(proxy.process.pid)
            for _ in range(SCRAPES):
                status, body = proxy.http_get(path)
                assert status == 200 and body
            each = (cpu_seconds(proxy.process.pid) - before) / SCRAPES
            print(f"{path}: {each * 1000:.2f} ms of CPU with {CLIENTS} clients")
            assert each < 0.010
