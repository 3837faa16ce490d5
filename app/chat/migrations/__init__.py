"""The database's history.

While a release is shipped, the code of before goes on with a database that has the new migrations already; and an
operator may go back to it later. So a migration adds first (expand), and takes away what no code uses any more in a later
release (contract). One that takes away, renames or forbids says since which migration code does without:

    class Migration(migrations.Migration):
        contract_after = "0007_do_without_nickname"

`0007` belongs to the release whose code no longer uses the column. Where there is nothing to change in the database yet,
it takes the field out of Django's state only (`SeparateDatabaseAndState`). Code that does not know `0007` cannot run once
this migration has been applied: a deploy is refused while such code runs, and so is a rollback to it.
"""
