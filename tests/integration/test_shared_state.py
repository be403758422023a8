"""What one client must never see of another one that had the same backend before it."""
import pytest
from harness.system import wait_until
from harness.wire import bind, close, execute, flush, function_call, parse, sync


@pytest.fixture
def one(pgweir):
    """A proxy with a single backend."""
    return pgweir(settings={"default_pool_size": 1, "route": "primary", "workers": 1})


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_start_up_settings_stay_with_their_client(pgweir, database, mode):
    """A backend that was opened for a client with settings is no good for one that has none of them: RESET leads back to
    what stood in the start-up packet."""
    proxy = pgweir(settings={"default_pool_size": 1, "route": "primary", "workers": 1, "pool_mode": mode})
    settings = {"options": "-c search_path=tenant_a -c work_mem=7MB"}
    with proxy.connect(database=database, **settings) as client:
        assert client.value("show search_path") == "tenant_a"
    proxy.admin("reconnect")
    with proxy.connect(database=database, **settings) as client:
        assert client.value("show work_mem") == "7MB"
    with proxy.connect(database=database) as client:
        assert client.value("show search_path") != "tenant_a"
        assert client.value("show work_mem") != "7MB"


def test_a_setting_that_a_later_segment_executes(one, database):
    """Bind, Flush, and Execute in the next part: the session's state changes all the same."""
    with one.connect(database=database) as client:
        client.send(parse("", "set work_mem = '7MB'"), bind("", ""), flush())
        client.read_until("2")
        client.send(execute(), sync())
        client.read_until_ready()
        assert client.value("show work_mem") == "7MB"
    with one.connect(database=database) as client:
        assert client.value("show work_mem") != "7MB"


def test_close_of_a_statement_whose_parse_failed(one, database):
    with one.connect(database=database) as client:
        for _ in range(20):
            client.send(parse("s", "selec 1"), close("S", "s"), sync())
            assert client.brief_until_ready()[-1] == "Z I"
        assert client.value("select 1") == "1"


def test_what_a_function_call_leaves_is_nobody_elses(one, database):
    """set_config() by the protocol's FunctionCall, on the only backend of two clients."""
    with one.connect(database=database) as setter, one.connect(database=database) as other:
        setter.send(function_call(2078, ["work_mem", "5MB", "f"]))
        assert setter.read_until_ready()[-1].brief == "Z I"
        assert other.value("show work_mem") == "4MB"
        assert setter.value("show work_mem") == "5MB"


@pytest.mark.parametrize("word", ["serializable", "SERIALIZABLE", "repeatable read"])
def test_rule_c2_the_sessions_own_default(pgweir, database, word):
    """default_transaction_isolation from the start-up packet holds in a transaction on a replica too."""
    proxy = pgweir(settings={"consistency": "eventual"})
    wished = "/* pgweir: route=replica */ select pg_is_in_recovery()"
    wait_until(lambda: proxy.value(wished, database=database) == "t", "reads reach the replica")
    option = word.replace(" ", "\\ ")
    with proxy.connect(database=database, options=f"-c default_transaction_isolation={option}") as client:
        client.query("begin read only")
        client.query("select 1")
        assert client.value("select current_setting('transaction_isolation')") == word.lower()
        client.query("commit")
