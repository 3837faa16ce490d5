-- The application reads and writes rows, and nothing more; the owner of the database makes and changes what holds them.
SET LOCAL lock_timeout = '1s';
REASSIGN OWNED BY {{ postgresql_application }} TO {{ postgresql_owner }};
ALTER DATABASE {{ postgresql_database }} OWNER TO {{ postgresql_owner }};

REVOKE ALL ON DATABASE {{ postgresql_database }} FROM PUBLIC, {{ postgresql_application }};
GRANT CONNECT ON DATABASE {{ postgresql_database }} TO {{ postgresql_application }};

REVOKE ALL ON SCHEMA public FROM PUBLIC, {{ postgresql_application }};
GRANT USAGE ON SCHEMA public TO {{ postgresql_application }};

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, {{ postgresql_application }};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {{ postgresql_application }};
-- With UPDATE: an id that comes from elsewhere moves the sequence beyond it.
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC, {{ postgresql_application }};
GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {{ postgresql_application }};
REVOKE ALL ON ALL ROUTINES IN SCHEMA public FROM PUBLIC, {{ postgresql_application }};

-- Who backs up reads it all.
GRANT CONNECT ON DATABASE {{ postgresql_database }} TO {{ postgresql_reader }};
GRANT USAGE ON SCHEMA public TO {{ postgresql_reader }};
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {{ postgresql_reader }};
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {{ postgresql_reader }};
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {{ postgresql_reader }};
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {{ postgresql_reader }};

-- The same for what migrations will make.
ALTER DEFAULT PRIVILEGES FOR ROLE {{ postgresql_owner }} IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {{ postgresql_application }};
ALTER DEFAULT PRIVILEGES FOR ROLE {{ postgresql_owner }} IN SCHEMA public
    GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO {{ postgresql_application }};
ALTER DEFAULT PRIVILEGES FOR ROLE {{ postgresql_owner }} IN SCHEMA public GRANT SELECT ON TABLES TO {{ postgresql_reader }};
ALTER DEFAULT PRIVILEGES FOR ROLE {{ postgresql_owner }} IN SCHEMA public GRANT SELECT ON SEQUENCES TO {{ postgresql_reader }};
-- Not in a schema: there it could only add to what everybody has.
ALTER DEFAULT PRIVILEGES FOR ROLE {{ postgresql_owner }} REVOKE ALL ON ROUTINES FROM PUBLIC;
