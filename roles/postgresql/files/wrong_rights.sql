-- Each difference to what rights.sql sets, in a row; none where all is as it should be.
WITH known (kind, names, read_names) AS (
    VALUES
        ('d'::"char", '{CONNECT}'::text[], '{CONNECT}'::text[]), ('n', '{USAGE}', '{USAGE}'),
        ('r', '{DELETE,INSERT,SELECT,UPDATE}', '{SELECT}'), ('S', '{SELECT,UPDATE,USAGE}', '{SELECT}'), ('f', '{}', '{}')
),
object (kind, name, owner, acl) AS (
    SELECT 'd'::"char", datname::text, datdba, coalesce(datacl, acldefault('d', datdba))
    FROM pg_database WHERE datname = current_database()
    UNION ALL
    SELECT 'n', nspname, nspowner, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace WHERE nspname = 'public'
    UNION ALL
    SELECT
        CASE relkind WHEN 'S' THEN 'S'::"char" ELSE 'r' END, relname, relowner,
        coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, relowner))
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL
    SELECT 'f', proname, proowner, coalesce(proacl, acldefault('f', proowner))
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT
        kind, 'what will be made', to_regrole('{{ postgresql_owner }}'),
        (SELECT defaclacl FROM pg_default_acl
            WHERE defaclrole = to_regrole('{{ postgresql_owner }}') AND defaclobjtype = kind
                AND defaclnamespace = CASE kind WHEN 'f' THEN 0 ELSE 'public'::regnamespace::oid END)
    FROM known WHERE kind IN ('r', 'S', 'f')
),
given AS (
    SELECT
        object.*, known.names, known.read_names,
        ARRAY(SELECT privilege_type FROM aclexplode(acl)
            WHERE grantee = to_regrole('{{ postgresql_application }}') ORDER BY 1) AS to_application,
        ARRAY(SELECT privilege_type FROM aclexplode(acl)
            WHERE grantee = to_regrole('{{ postgresql_reader }}') ORDER BY 1) AS to_reader,
        EXISTS (SELECT FROM aclexplode(acl) WHERE grantee = 0) AS to_everybody
    FROM object JOIN known USING (kind)
)
SELECT name, 'it belongs to ' || pg_get_userbyid(owner) AS wrong FROM given
WHERE owner = to_regrole('{{ postgresql_application }}')
    OR kind = 'd' AND owner != to_regrole('{{ postgresql_owner }}')
UNION ALL
SELECT name, '{{ postgresql_application }} has ' || to_application::text || ' and not ' || names::text FROM given
WHERE to_application != names
UNION ALL
SELECT name, '{{ postgresql_reader }} has ' || to_reader::text || ' and not ' || read_names::text FROM given
WHERE to_reader != read_names
UNION ALL
SELECT name, 'everybody has rights' FROM given WHERE to_everybody
UNION ALL
SELECT name, 'functions are for everybody' FROM given WHERE acl IS NULL AND kind = 'f'
ORDER BY 1, 2
