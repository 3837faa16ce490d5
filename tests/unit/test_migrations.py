"""Migrations that take something away say since when code does without."""

import pytest
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader

TAKE_AWAY = (
    migrations.DeleteModel,
    migrations.RemoveField,
    migrations.RenameField,
    migrations.RenameModel,
    migrations.AlterModelTable,
)


def contracting(operations):
    """Those of the operations after which older code may find something missing in the database."""
    for operation in operations:
        if isinstance(operation, migrations.SeparateDatabaseAndState):
            yield from contracting(operation.database_operations)
        elif isinstance(operation, TAKE_AWAY):
            yield operation


def own_migrations():
    loader = MigrationLoader(None)
    return {name: migration for (app, name), migration in loader.disk_migrations.items() if app == "chat"}


@pytest.mark.parametrize("name", sorted(own_migrations()))
def test_what_takes_something_away_is_marked(name):
    migration = own_migrations()[name]
    mark = getattr(migration, "contract_after", None)
    if list(contracting(migration.operations)):
        assert mark, f"{name} takes something away; see chat/migrations/__init__.py"
    if mark is not None:
        assert mark in own_migrations()
        assert mark < name


FIELD = models.IntegerField()


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (migrations.RemoveField("user", "nickname"), 1),
        (migrations.RenameField("user", "nickname", "name"), 1),
        (migrations.DeleteModel("School"), 1),
        (migrations.AddField("user", "nickname", FIELD), 0),
        (migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField("user", "nickname")]), 0),
        (migrations.SeparateDatabaseAndState(database_operations=[migrations.RemoveField("user", "nickname")]), 1),
    ],
)
def test_what_takes_something_away_is_known(operation, expected):
    assert len(list(contracting([operation]))) == expected
