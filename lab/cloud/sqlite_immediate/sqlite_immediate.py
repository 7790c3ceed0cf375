# SPDX-License-Identifier: Apache-2.0
# mypy: disable-error-code="import-not-found, misc, untyped-decorator"
"""A plugin of SQLAlchemy: ``sqlite:///FILE?timeout=60&plugin=immediate``.

Two services that begin by reading and go on to write wait for each other:
SQLite fails both at once, "database is locked", whatever the timeout. So
they queue up before.
"""

from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import CreateEnginePlugin


class Immediate(CreateEnginePlugin):
    """Begins every transaction as a writer, and lets others read meanwhile."""

    def update_url(self, url: Any) -> Any:
        return url.difference_update_query(['plugin'])

    def engine_created(self, engine: Any) -> None:
        @event.listens_for(engine, 'connect')
        def write_ahead(connection: Any, record: Any) -> None:
            connection.execute('PRAGMA journal_mode=WAL')

        @event.listens_for(engine, 'before_cursor_execute', retval=True)
        def begin_immediate(
            connection: Any,
            cursor: Any,
            statement: str,
            parameters: Any,
            *rest: Any,
        ) -> tuple[str, Any]:
            if statement == 'BEGIN':
                statement = 'BEGIN IMMEDIATE'
            return statement, parameters
