"""Marks for tests that run on one database, although `database_url` is on SQLite and PostgreSQL.

Whole processes take seconds to start. What differs between the databases below them is held on
both: the store and its leases by `tests/storage`, the job engine by the tests of `test_jobs.py`
in which a worker is killed and in which jobs are lost. The rest runs once, on the database on which
it happens: several users of one machine share SQLite, several machines PostgreSQL.
"""

from __future__ import annotations

import pytest

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
