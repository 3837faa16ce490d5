"""The log of changes, and the triggers that write it.

SQLite loses the triggers of a table when a later migration makes it anew, as Django does there for most changes of a
column. Such a migration puts them back: `write_the_log` after it, and before it `stop_writing_the_log`.

An application that is rolled back without this migration goes on writing the log and prunes nothing; the next newer one
does.
"""

import django.db.models.functions.datetime
from django.db import migrations, models

PEOPLE = ("is_active", "tokens_valid_after", "role", "first_name", "last_name", "username", "avatar")
ROOMS = ("is_deleted", "room_type", "name")
MEMBERSHIPS = ("room_id", "user_id")

# What is watched of which table; what a line of the log takes from the row: its columns, and what they are there.
WATCHED = (
    ("chat_membership", "INSERT", (), ("room_id", "user_id"), ("room_id", "user_id")),
    ("chat_membership", "DELETE", (), ("room_id", "user_id"), ("room_id", "user_id")),
    ("chat_membership", "UPDATE", MEMBERSHIPS, ("room_id", "user_id"), ("room_id", "user_id")),
    ("chat_user", "DELETE", (), ("user_id",), ("id",)),
    ("chat_user", "UPDATE", PEOPLE, ("user_id",), ("id",)),
    ("chat_chatroom", "DELETE", (), ("room_id",), ("id",)),
    ("chat_chatroom", "UPDATE", ROOMS, ("room_id",), ("id",)),
    ("chat_revokedtoken", "INSERT", (), ("digest",), ("digest",)),
)


# The order in which the application takes them: who writes meanwhile is waited for, and is in nobody's way.
LOCK = "LOCK TABLE chat_chatroom, chat_membership, chat_user, chat_revokedtoken IN {} MODE"


def name_of(table, deed):
    return f"{table}_{deed.lower()}_is_logged"


def rows_of(deed, of):
    """The rows that a deed concerns: a membership that is moved is gone in one place and there in another."""
    if deed == "INSERT":
        return ("NEW",)
    return ("OLD", "NEW") if deed == "UPDATE" and of == MEMBERSHIPS else ("OLD",)


def differs(of, operator):
    return " OR ".join(f"OLD.{column} {operator} NEW.{column}" for column in of)


def columns_of(of):
    return f" OF {', '.join(of)}" if of else ""


def insert(log, columns, row, sources):
    values = ", ".join(f"{row}.{source}" for source in sources)
    return f"INSERT INTO {log} ({', '.join(columns)}) VALUES ({values});"  # nosec B608 # noqa: S608 (names from above)


def write_the_log(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        write_the_log_on_postgresql(schema_editor)
    else:
        write_the_log_on_sqlite(schema_editor)


def stop_writing_the_log(apps, schema_editor):
    on_postgresql = schema_editor.connection.vendor == "postgresql"
    if on_postgresql:
        schema_editor.execute(LOCK.format("ACCESS EXCLUSIVE"))
    for table, deed, *_ in WATCHED:
        schema_editor.execute(f"DROP TRIGGER {name_of(table, deed)}" + (f" ON {table}" if on_postgresql else ""))
    if on_postgresql:
        for table in dict.fromkeys(table for table, *_ in WATCHED):
            schema_editor.execute(f"DROP TRIGGER {name_of(table, 'TRUNCATE')} ON {table}")
        schema_editor.execute("DROP FUNCTION chat_log_change()")


def write_the_log_on_sqlite(schema_editor):
    for table, deed, of, columns, sources in WATCHED:
        inserts = " ".join(insert("chat_change", columns, row, sources) for row in rows_of(deed, of))
        when = f" WHEN {differs(of, 'IS NOT')}" if of else ""
        schema_editor.execute(
            f"CREATE TRIGGER {name_of(table, deed)} AFTER {deed}{columns_of(of)} ON {table} "
            f"FOR EACH ROW{when} BEGIN {inserts} END"
        )


def write_the_log_on_postgresql(schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(current_schema())")
        log = f"{cursor.fetchone()[0]}.chat_change"
    schema_editor.execute(
        'ALTER TABLE chat_change ALTER COLUMN "transaction" SET DEFAULT pg_current_xact_id()::text::bigint'
    )
    cases = ""
    for table, deed, of, columns, sources in WATCHED:
        inserts = " ".join(insert(log, columns, row, sources) for row in rows_of(deed, of))
        cases += f"WHEN '{table} {deed}' THEN {inserts} "
    # With the rights of its owner: whoever may change a room need not be allowed to write the log.
    schema_editor.execute(
        f"""
        CREATE FUNCTION chat_log_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
        AS $$
        BEGIN
            CASE TG_TABLE_NAME || ' ' || TG_OP {cases}
            ELSE INSERT INTO {log} DEFAULT VALUES;
            END CASE;
            RETURN NULL;
        END
        $$
        """
    )
    schema_editor.execute(LOCK.format("SHARE ROW EXCLUSIVE"))
    for table, deed, of, *_ in WATCHED:
        when = f" WHEN ({differs(of, 'IS DISTINCT FROM')})" if of else ""
        schema_editor.execute(
            f"CREATE TRIGGER {name_of(table, deed)} AFTER {deed}{columns_of(of)} ON {table} "
            f"FOR EACH ROW{when} EXECUTE FUNCTION chat_log_change()"
        )
    for table in dict.fromkeys(table for table, *_ in WATCHED):
        schema_editor.execute(
            f"CREATE TRIGGER {name_of(table, 'TRUNCATE')} AFTER TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION chat_log_change()"
        )


class Migration(migrations.Migration):
    dependencies = [
        ("chat", "0002_the_whole_conversation"),
    ]

    operations = [
        migrations.CreateModel(
            name="Change",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                ("room_id", models.BigIntegerField(null=True)),
                ("user_id", models.BigIntegerField(null=True)),
                ("digest", models.CharField(max_length=64, null=True)),
                ("transaction", models.BigIntegerField(db_index=True, null=True)),
                ("pruned_to", models.BigIntegerField(null=True)),
                (
                    "at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
            ],
        ),
        migrations.RunPython(write_the_log, stop_writing_the_log),
    ]
