from pathlib import Path

import pytest
import sqlalchemy as sa

from annotate.store.address import with_password

LINES = r"""
# db:5432:labels:ann:a comment
other:5432:labels:ann:of another host
db:5433:labels:ann:of another port
db:*:labels:bea:of another user
db:5432:labels:ann:with\:colon\\and backslash
*:*:*:*:any
"""


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("postgresql://ann@db/labels", "with:colon\\and backslash"),
        ("postgresql://ann@db:5433/labels", "of another port"),
        ("postgresql://bea@db:1/labels", "of another user"),
        ("postgresql://cid@db/labels", "any"),
        ("postgresql://ann@/labels?unix_sock=/tmp/x", "any"),
        ("postgresql://ann:own@db/labels", "own"),
    ],
)
def test_the_password_file_is_read_as_postgresql_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, password: str
) -> None:
    (tmp_path / ".pgpass").write_text(LINES, encoding="utf-8")
    (tmp_path / ".pgpass").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.delenv("PGPASSFILE", raising=False)
    assert with_password(sa.engine.make_url(url)).password == password


def test_the_environment_comes_first_and_an_open_file_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    passwords, address = tmp_path / "passwords", sa.engine.make_url("postgresql://ann@db/labels")
    passwords.write_text(LINES, encoding="utf-8")
    passwords.chmod(0o644)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    monkeypatch.delenv("PGPASSWORD", raising=False)
    assert with_password(address).password is None
    assert f"chmod 600 {passwords}" in caplog.text
    monkeypatch.setenv("PGPASSWORD", "from the environment")
    assert with_password(address).password == "from the environment"
