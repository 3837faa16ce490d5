"""The log of changes tells of new passwords too, and of sessions that have ended.

On SQLite, what makes `chat_user` or `django_session` anew puts these triggers back, as it does with those of 0003.
"""

from django.db import migrations

CHANGE = "chat_user_password_is_logged AFTER UPDATE OF password ON chat_user FOR EACH ROW"
END = "django_session_delete_is_logged AFTER DELETE ON django_session FOR EACH ROW"


def log_them(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        log_them_on_postgresql(schema_editor)
        return
    for event, condition, columns, values in (
        (CHANGE, "WHEN OLD.password IS NOT NEW.password ", "user_id", "OLD.id"),
        (END, "", "digest", "'session:' || OLD.session_key"),
    ):
        insert = f"INSERT INTO chat_change ({columns}) VALUES ({values});"  # nosec B608 # noqa: S608 (names from above)
        schema_editor.execute(f"CREATE TRIGGER {event} {condition}BEGIN {insert} END")


def log_them_on_postgresql(schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(current_schema())")
        log = f"{cursor.fetchone()[0]}.chat_change"
    # With the rights of its owner, as that of 0003.
    schema_editor.execute(
        f"""
        CREATE FUNCTION chat_log_ended_session() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pg_catalog
        AS $$
        BEGIN
            INSERT INTO {log} (digest) VALUES ('session:' || OLD.session_key);
            RETURN NULL;
        END
        $$
        """  # nosec B608 # noqa: S608 (a name that the database has quoted)
    )
    schema_editor.execute(
        f"CREATE TRIGGER {CHANGE} WHEN (OLD.password IS DISTINCT FROM NEW.password) EXECUTE FUNCTION chat_log_change()"
    )
    schema_editor.execute(f"CREATE TRIGGER {END} EXECUTE FUNCTION chat_log_ended_session()")
    # Whose they were is not known: everybody is looked at.
    schema_editor.execute(
        "CREATE TRIGGER django_session_truncate_is_logged AFTER TRUNCATE ON django_session FOR EACH STATEMENT "
        "EXECUTE FUNCTION chat_log_change()"
    )


def log_them_no_more(apps, schema_editor):
    on_postgresql = schema_editor.connection.vendor == "postgresql"
    for table, deed in (("chat_user", "password"), ("django_session", "delete")):
        schema_editor.execute(f"DROP TRIGGER {table}_{deed}_is_logged" + (f" ON {table}" if on_postgresql else ""))
    if on_postgresql:
        schema_editor.execute("DROP TRIGGER django_session_truncate_is_logged ON django_session")
        schema_editor.execute("DROP FUNCTION chat_log_ended_session()")


class Migration(migrations.Migration):
    dependencies = [
        ("chat", "0004_login_attempts"),
        ("sessions", "0001_initial"),
    ]

    operations = [
        migrations.RunPython(log_them, log_them_no_more),
    ]
