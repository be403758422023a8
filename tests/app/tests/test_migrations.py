"""Alembic: upgrade, downgrade, autogenerate, current and history."""
import re
import shutil

import pytest
from conftest import PROJECT, alembic, psql


@pytest.fixture
def project(tmp_path, migrated):
    """A copy of the project, for new revisions."""
    copy = tmp_path / "project"
    shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def indexes():
    return set(psql("-c", "select indexname from pg_indexes where schemaname = 'public'").split())


def test_current(migrated):
    assert "0003 (head)" in alembic("current")


def test_history(migrated):
    history = alembic("history", "--verbose")
    assert [history.index(name) for name in ("Add custom indexes", "Add orders table", "Add user table")]
    assert "0002" in history


def test_downgrade_and_upgrade_one_step(migrated):
    assert "idx_users_name_search" in indexes()
    alembic("downgrade", "-1")
    assert "idx_users_name_search" not in indexes()
    alembic("upgrade", "+1")
    assert "idx_users_name_search" in indexes()


def test_downgrade_to_a_revision(migrated):
    alembic("downgrade", "0001")
    assert psql("-c", "select to_regclass('orders') is null") == "t"
    alembic("upgrade", "head")
    assert psql("-c", "select to_regclass('orders') is null") == "f"


def test_autogenerate_finds_nothing_to_do(project):
    alembic("revision", "--autogenerate", "-m", "Nothing", project=project)
    written = next((project / "migrations" / "versions").glob("*_nothing.py")).read_text()
    assert len(re.findall(r"^ +pass$", written, re.M)) == 2


def test_autogenerate_finds_a_new_column(project):
    model = project / "src" / "users" / "models.py"
    model.write_text(model.read_text().replace("    bio:", "    nickname: Mapped[str | None] = mapped_column(String(50))\n    bio:"))
    alembic("revision", "--autogenerate", "-m", "Add nickname", project=project)
    alembic("upgrade", "head", project=project)
    found = "select count(*) from information_schema.columns where table_name = 'users' and column_name = 'nickname'"
    assert psql("-c", found) == "1"
    alembic("downgrade", "-1", project=project)
    assert psql("-c", found) == "0"


def test_empty_migration(project):
    alembic("revision", "-m", "Add custom things", project=project)
    assert list((project / "migrations" / "versions").glob("*_add_custom_things.py"))
