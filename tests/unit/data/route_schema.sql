-- The schema that tests/unit/data/route.tsv is about.  Loaded on a real primary by the superuser into an empty
-- database; tests/unit/data/route_catalog.txt is what the catalog queries say about it.

CREATE EXTENSION citext;
CREATE EXTENSION hstore;
CREATE EXTENSION pg_trgm;
CREATE EXTENSION pgcrypto;
CREATE EXTENSION "uuid-ossp";
CREATE EXTENSION dblink;
CREATE EXTENSION adminpack;
CREATE EXTENSION file_fdw;
CREATE EXTENSION tablefunc;

CREATE SCHEMA app;
CREATE SCHEMA other;

-- plain tables
CREATE TABLE users (
	id serial PRIMARY KEY,
	email citext UNIQUE NOT NULL,
	full_name text,
	is_active boolean NOT NULL DEFAULT true,
	attributes hstore,
	tags text[],
	profile jsonb DEFAULT '{}',
	search tsvector,
	version integer NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE orders (id bigserial PRIMARY KEY, user_id integer REFERENCES users, total numeric(10,2), placed date);
CREATE TABLE items (order_id bigint REFERENCES orders ON DELETE CASCADE, sku text, quantity integer, price numeric);
CREATE TABLE pgbench_accounts (aid integer PRIMARY KEY, bid integer, abalance integer, filler char(84));
CREATE TABLE app.settings (key text PRIMARY KEY, value text);
CREATE TABLE "Mixed Case" ("Id" integer, "select" text);
INSERT INTO users (email, full_name, attributes) VALUES ('a@example.com', 'A', 'k=>v'), ('b@example.com', 'B', NULL);
INSERT INTO orders (user_id, total, placed) VALUES (1, 10, '2024-01-01'), (2, 20, '2024-02-01');
INSERT INTO items VALUES (1, 'x', 1, 10), (2, 'y', 2, 10);
INSERT INTO pgbench_accounts SELECT i, 1, 0, '' FROM generate_series(1, 10) i;

-- relations whose storage or meaning is not a replica's
CREATE SEQUENCE sq;
CREATE UNLOGGED TABLE scratch (id integer);
CREATE TABLE measurements (day date, value integer) PARTITION BY RANGE (day);
CREATE TABLE measurements_2024 PARTITION OF measurements FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE measurements_2025 PARTITION OF measurements FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE logs (day date, line text) PARTITION BY RANGE (day);
CREATE TABLE logs_2024 PARTITION OF logs FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE UNLOGGED TABLE logs_2025 PARTITION OF logs FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE parent (id integer);
CREATE UNLOGGED TABLE child () INHERITS (parent);
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE outside (line text) SERVER files OPTIONS (filename '/etc/hostname', format 'text');
CREATE TABLE sharded (day date, line text) PARTITION BY RANGE (day);
CREATE FOREIGN TABLE sharded_2024 PARTITION OF sharded FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')
	SERVER files OPTIONS (filename '/dev/null', format 'csv');
CREATE MATERIALIZED VIEW totals AS SELECT user_id, sum(total) AS total FROM orders GROUP BY user_id;
CREATE TABLE effects (at timestamptz DEFAULT clock_timestamp(), what text);

-- functions: proved
CREATE FUNCTION f_add(a integer, b integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
CREATE FUNCTION f_count_users() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM users';
CREATE FUNCTION f_user_name(wanted integer) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
	found text;
	n integer := 0;
BEGIN
	SELECT full_name INTO found FROM users WHERE id = wanted;
	IF found IS NULL THEN
		RAISE EXCEPTION 'no user %', wanted USING ERRCODE = 'no_data_found';
	ELSIF length(found) > 100 THEN
		RETURN substr(found, 1, 100);
	END IF;
	FOR n IN 1..3 LOOP
		found := found || CASE WHEN n > 1 THEN '' ELSE lower('') END;
	END LOOP;
	RETURN found;
END $$;
CREATE FUNCTION f_user_name_or_null(wanted integer) RETURNS text LANGUAGE sql STABLE AS
	'SELECT full_name FROM users WHERE id = wanted';
CREATE FUNCTION f_atomic(a integer) RETURNS integer STABLE BEGIN ATOMIC SELECT a + count(*)::integer FROM users; END;
CREATE FUNCTION f_returns(a integer) RETURNS integer IMMUTABLE RETURN a * 2;
CREATE FUNCTION f_calls(a integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT f_add(a, 1) + f_atomic(a)';
CREATE FUNCTION f_recursive(n integer) RETURNS integer LANGUAGE plpgsql STABLE AS
	$$BEGIN IF n <= 1 THEN RETURN 1; END IF; RETURN n * f_recursive(n - 1); END$$;
CREATE FUNCTION f_set_returning(n integer) RETURNS SETOF users LANGUAGE plpgsql STABLE AS
	$$BEGIN RETURN QUERY SELECT * FROM users WHERE id < n; RETURN; END$$;
CREATE FUNCTION f_path() RETURNS bigint LANGUAGE sql STABLE SET search_path = public AS 'SELECT count(*) FROM users';
CREATE FUNCTION f_time() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now()';
CREATE FUNCTION f_case(a integer) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
	$$BEGIN CASE a WHEN 1 THEN RETURN 'one'; ELSE RETURN 'many'; END CASE; END$$;

-- functions: not proved
CREATE FUNCTION f_write(a integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS
	$$BEGIN INSERT INTO effects (what) VALUES ('f_write'); RETURN a; END$$;
CREATE FUNCTION f_volatile(a integer) RETURNS integer LANGUAGE sql VOLATILE AS 'SELECT a';
CREATE FUNCTION f_undeclared(a integer) RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN a; END';
CREATE FUNCTION f_stable_write(a integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT f_write(a)';
CREATE FUNCTION f_stable_deep(a integer) RETURNS integer LANGUAGE plpgsql STABLE AS 'BEGIN RETURN f_stable_write(a); END';
CREATE FUNCTION f_stable_perform(a integer) RETURNS integer LANGUAGE plpgsql STABLE AS
	'BEGIN PERFORM f_write(a); RETURN a; END';
CREATE FUNCTION f_swallow() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
	PERFORM f_write(1);
	RETURN 'written';
EXCEPTION WHEN OTHERS THEN
	RETURN 'swallowed ' || SQLSTATE;
END $$;
CREATE FUNCTION f_catches(a integer) RETURNS integer LANGUAGE plpgsql STABLE AS
	$$BEGIN RETURN 1 / a; EXCEPTION WHEN division_by_zero THEN RETURN 0; END$$;
CREATE FUNCTION f_dynamic(q text) RETURNS bigint LANGUAGE plpgsql STABLE AS
	$$DECLARE n bigint; BEGIN EXECUTE q INTO n; RETURN n; END$$;
CREATE FUNCTION f_next() RETURNS bigint LANGUAGE sql STABLE AS $$SELECT nextval('sq')$$;
CREATE FUNCTION f_atomic_write(a integer) RETURNS integer STABLE BEGIN ATOMIC SELECT f_write(a); END;
CREATE FUNCTION f_returns_write(a integer) RETURNS integer STABLE RETURN f_write(a);
CREATE FUNCTION f_default(a integer DEFAULT f_write(7)) RETURNS integer LANGUAGE sql STABLE AS 'SELECT a';
CREATE FUNCTION f_overloaded(a integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT a';
CREATE FUNCTION f_overloaded(a text) RETURNS integer LANGUAGE sql VOLATILE AS 'SELECT f_write(1)';
CREATE FUNCTION app.f_same(a integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT a';
CREATE FUNCTION other.f_same(a integer) RETURNS integer LANGUAGE sql VOLATILE AS 'SELECT public.f_write(a)';
CREATE FUNCTION public.reverse(a integer) RETURNS text LANGUAGE sql VOLATILE AS $$SELECT f_write(a)::text$$;
CREATE FUNCTION f_internal(a float8) RETURNS float8 LANGUAGE internal IMMUTABLE STRICT AS 'dsqrt';
CREATE FUNCTION f_custom() RETURNS text LANGUAGE sql STABLE SET app.x = '1' AS 'SELECT ''a''';
CREATE FUNCTION f_sets() RETURNS text LANGUAGE plpgsql STABLE AS
	$$BEGIN RETURN set_config('work_mem', '5MB', false); END$$;
CREATE FUNCTION f_locks() RETURNS boolean LANGUAGE sql STABLE AS 'SELECT pg_try_advisory_lock(7)';
CREATE FUNCTION f_row_lock() RETURNS bigint LANGUAGE sql VOLATILE AS
	'SELECT count(*) FROM (SELECT 1 FROM users FOR SHARE) x';
CREATE FUNCTION f_state() RETURNS boolean LANGUAGE sql STABLE AS 'SELECT pg_is_in_recovery()';
CREATE FUNCTION f_reads_scratch() RETURNS bigint LANGUAGE plpgsql STABLE AS
	$$BEGIN RETURN (SELECT count(*) FROM scratch); END$$;
CREATE FUNCTION f_text(q text) RETURNS xml LANGUAGE sql STABLE AS $$SELECT query_to_xml(q, true, false, '')$$;
CREATE FUNCTION f_backslash(t text) RETURNS text LANGUAGE sql STABLE AS $$SELECT t || '\'$$;
CREATE FUNCTION f_dblink() RETURNS text LANGUAGE sql STABLE AS
	$$SELECT dblink_exec('host=127.0.0.1 port=1 connect_timeout=1', 'SELECT 1')$$;
CREATE LANGUAGE plunsafe HANDLER plpgsql_call_handler INLINE plpgsql_inline_handler;
CREATE FUNCTION f_untrusted() RETURNS integer LANGUAGE plunsafe STABLE AS 'BEGIN RETURN 1; END';
CREATE PROCEDURE p_plain(a integer) LANGUAGE plpgsql AS $$BEGIN INSERT INTO effects (what) VALUES ('p'); END$$;
CREATE PROCEDURE p_sets(a integer) LANGUAGE plpgsql AS $$BEGIN PERFORM set_config('work_mem', '6MB', false); END$$;

-- F4: functions that nobody calls by name
CREATE TABLE pt (id integer);
INSERT INTO pt VALUES (1);
CREATE FUNCTION audit(pt) RETURNS integer LANGUAGE plpgsql VOLATILE AS
	$$BEGIN INSERT INTO effects (what) VALUES ('audit'); RETURN 1; END$$;
CREATE FUNCTION doubled(pt) RETURNS integer LANGUAGE sql STABLE AS 'SELECT $1.id * 2';
CREATE TABLE has_audit (audit integer);
CREATE FUNCTION add_write(integer, integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
	$$BEGIN PERFORM f_write(1); RETURN $1 + $2; END$$;
CREATE AGGREGATE sum_write(integer) (SFUNC = add_write, STYPE = integer, INITCOND = '0');
CREATE AGGREGATE sum_plain(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0');
CREATE FUNCTION op_plain(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 = $2';
CREATE FUNCTION op_write(integer, integer) RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT f_write($1) = $2';
CREATE OPERATOR === (FUNCTION = op_plain, LEFTARG = integer, RIGHTARG = integer);
CREATE OPERATOR =!= (FUNCTION = op_write, LEFTARG = integer, RIGHTARG = integer);
CREATE OPERATOR other.+! (FUNCTION = op_write, LEFTARG = integer, RIGHTARG = integer);
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE DOMAIN checked AS integer CHECK (f_write(VALUE) > 0);
CREATE DOMAIN rechecked AS checked;
CREATE TYPE pair AS (a integer, b checked);
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TYPE span AS RANGE (subtype = float8);
CREATE TABLE feelings (id integer, feeling mood, during span, size positive);
INSERT INTO feelings VALUES (1, 'happy', '[1,2]', 3);
CREATE TABLE holds_checked (id integer, c checked);
CREATE FUNCTION mood_to_int(mood) RETURNS integer LANGUAGE sql VOLATILE AS 'SELECT f_write(1)';
CREATE CAST (mood AS integer) WITH FUNCTION mood_to_int(mood);
CREATE TYPE shade AS ENUM ('light', 'dark');
CREATE FUNCTION shade_to_int(shade) RETURNS integer LANGUAGE sql IMMUTABLE AS $$SELECT CASE $1 WHEN 'light' THEN 1 ELSE 2 END$$;
CREATE CAST (shade AS integer) WITH FUNCTION shade_to_int(shade);

-- overloads of what PostgreSQL has itself: meant only where a value of their type is at hand
CREATE TYPE spot AS (x integer, y integer);
CREATE TABLE spots (id integer, place spot);
INSERT INTO spots VALUES (1, '(1,2)');
CREATE FUNCTION spot_eq(spot, spot) RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT f_write($1.x) = $2.x';
CREATE OPERATOR = (FUNCTION = spot_eq, LEFTARG = spot, RIGHTARG = spot);
CREATE FUNCTION abs(spot) RETURNS integer LANGUAGE sql VOLATILE AS 'SELECT f_write($1.x)';
CREATE FUNCTION spot_of(a integer) RETURNS spot LANGUAGE sql IMMUTABLE AS 'SELECT ROW(a, a)::spot';
CREATE FUNCTION f_same_spot(a integer) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT spot_of(a) = spot_of(a)';
CREATE FUNCTION f_places() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM spots';

-- what the planner calls of its own accord
CREATE OPERATOR |=| (FUNCTION = op_plain, LEFTARG = integer, RIGHTARG = integer);
CREATE OPERATOR |<>| (FUNCTION = op_write, LEFTARG = integer, RIGHTARG = integer, NEGATOR = |=|);
CREATE FUNCTION hash_write(integer, bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
	$$BEGIN PERFORM f_write(1); RETURN $1; END$$;
CREATE OPERATOR CLASS hash_write_ops FOR TYPE integer USING hash AS OPERATOR 1 =, FUNCTION 2 hash_write(integer, bigint);
CREATE TABLE hashed (id integer) PARTITION BY HASH (id hash_write_ops);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);

-- views
CREATE VIEW v_active AS SELECT id, email FROM users WHERE is_active;
CREATE VIEW v_nested AS SELECT email FROM v_active;
CREATE VIEW v_write AS SELECT id, f_write(id) AS written FROM users;
CREATE VIEW v_over_write AS SELECT id FROM v_write;
CREATE VIEW v_nextval AS SELECT nextval('sq') AS n;
CREATE VIEW v_time AS SELECT id, now() - created_at AS old FROM users;
CREATE VIEW v_today AS SELECT id FROM users WHERE created_at::date = CURRENT_DATE;
CREATE VIEW v_activity AS SELECT pid, state FROM pg_stat_activity;
CREATE VIEW v_scratch AS SELECT id FROM scratch;
CREATE VIEW v_sequence AS SELECT last_value FROM sq;
CREATE VIEW v_locked AS SELECT id FROM users FOR SHARE;
CREATE VIEW v_operator AS SELECT id FROM users WHERE id =!= 1;
CREATE VIEW v_cast AS SELECT feeling::integer AS f FROM feelings;
CREATE VIEW v_outside AS SELECT line FROM outside;
CREATE VIEW v_tables AS SELECT relname FROM pg_class WHERE relkind = 'r';

-- row security
CREATE TABLE documents (id integer, owner name);
ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON documents USING (owner = current_user);
CREATE TABLE secrets (id integer, owner name);
ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
CREATE POLICY watched ON secrets USING (f_write(id) > 0);
CREATE TABLE tenants (id integer, tenant text);
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON tenants USING (tenant = current_setting('app.tenant', true));
CREATE TABLE dormant (id integer);
CREATE POLICY watched ON dormant USING (f_write(id) > 0);

-- writes that touch the session
CREATE TABLE audited (id integer);
CREATE FUNCTION t_sets() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN PERFORM set_config('app.last', NEW.id::text, false); RETURN NEW; END$$;
CREATE TRIGGER sets BEFORE INSERT ON audited FOR EACH ROW EXECUTE FUNCTION t_sets();
CREATE TABLE stamped (id integer, updated_at timestamptz);
CREATE FUNCTION t_stamp() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN NEW.updated_at := now(); RETURN NEW; END$$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION t_stamp();
