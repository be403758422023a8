"""What the programs of the leak test work on: the same objects in two databases, one behind the proxy and one direct.

Client n has the schemas c<n>a and c<n>b to itself, so that no client waits for another and every answer depends on its own
program alone.  Nothing here is changed by a program but rows, sequences and the objects named in SCRATCH."""

CLIENTS = 12
LOGIN = "leak_app"  # who logs in beside the superuser
SCRATCH = ["scratch1", "scratch2"]

ROLES = f"""
do $$ begin
    create role {LOGIN} login;
    create role leak_a;
    create role leak_b;
    create role "leak C";
    create role leak_stranger;
    grant leak_a, leak_b, "leak C" to {LOGIN};
    alter role {LOGIN} set work_mem = '5MB';
    alter role {LOGIN} set app.role = 'of the role';
exception when duplicate_object then null;
end $$
"""

COMMON = """
create schema sh;
grant all on schema sh to public;
create table sh.marker(who text);
insert into sh.marker values ('sh');
create table sh.facts(id int primary key, d timestamptz, day date, iv interval, f float8, b bytea);
insert into sh.facts select g, timestamptz '2024-01-02 03:04:05+00' + g * interval '1 hour', date '2024-02-01' + g,
    g * interval '1 day 2 hours', g / 3.0, decode('00ff41', 'hex') from generate_series(1, 20) g;
grant select on all tables in schema sh to public;
"""

PER_SCHEMA = """
create schema {s};
grant all on schema {s} to public;
create table {s}.marker(who text);
insert into {s}.marker values ('{s}');
create table {s}.t(id serial primary key, n int, note text);
create table {s}.u(n int constraint u_once unique deferrable initially deferred);
create sequence {s}.s;
"""

PER_CLIENT = """
create table {s}.rls(tenant text, note text);
insert into {s}.rls values ('one', 'row of one'), ('two', 'row of two'), ('', 'row of nobody');
alter table {s}.rls enable row level security;
create policy own on {s}.rls using (current_setting('app.tenant', true) is null or tenant = current_setting('app.tenant', true));
create table {s}.watched(n int, note text);
create table {s}.dflt(n int, x text default set_config('app.dflt', 'by default', false));
create function {s}.set_it(text, text) returns text language plpgsql as
    $$ begin perform set_config($1, $2, false); return current_setting($1); end $$;
create function {s}.set_in(text, text) returns text language plpgsql as
    $$ begin perform set_config($1, $2, true); return current_setting($1); end $$;
create function {s}.set_fixed(text) returns void language plpgsql as
    $$ begin perform set_config('app.fixed', $1, false); set work_mem = '9MB'; end $$;
create function {s}.set_sql(text, text) returns text language sql as 'select set_config($1, $2, false)';
create function {s}.run(text) returns void language plpgsql as $$ begin execute $1; end $$;
create function {s}.run_undone(text) returns text language plpgsql as
    $$ begin execute $1; raise exception 'undo'; exception when raise_exception then return 'undone'; end $$;
create function {s}.run_and_fail(text) returns void language plpgsql as
    $$ begin execute $1; raise exception 'on purpose' using errcode = 'LK001', detail = 'a detail', hint = 'a hint',
       table = 'tab', column = 'col', constraint = 'con', schema = 'sch', datatype = 'typ'; end $$;
create function {s}.with_clause() returns text language plpgsql set work_mem = '3MB' set app.clause = 'inside' as
    $$ begin return current_setting('work_mem') || current_setting('app.clause'); end $$;
create function {s}.stable_setter(text) returns text language plpgsql stable as
    $$ begin perform set_config('app.stable', $1, false); return $1; end $$;
create function {s}.reads(int) returns bigint language sql stable as 'select count(*) from {s}.t where n < $1';
create function {s}.says(text) returns text language plpgsql as
    $$ begin raise notice 'said %', $1; raise warning 'warned %', $1; return $1; end $$;
create procedure {s}.commits(text, text) language plpgsql as
    $$ begin perform set_config($1, $2, false); commit; perform set_config($1, $2 || '2', false);
       perform set_config('app.proc', $2, true); end $$;
create procedure {s}.rolls(text, text) language plpgsql as
    $$ begin perform set_config($1, $2, false); rollback; perform set_config('app.proc', $2, false); end $$;
create function {s}.on_insert() returns trigger language plpgsql as
    $$ begin perform set_config('app.trigger', new.note, false); return new; end $$;
create trigger watch before insert on {s}.watched for each row execute function {s}.on_insert();
create view {s}.setting_view as select set_config('app.view', 'looked at', false) as x;
create view {s}.asking_view as select current_setting('app.tenant', true) as x;
grant all on all tables in schema {s} to public;
grant all on all sequences in schema {s} to public;
"""

RESET_SCHEMA = """
delete from {s}.t; delete from {s}.u;
select setval('{s}.s', 1, false), setval('{s}.t_id_seq', 1, false);
drop table if exists {s}.scratch1, {s}.scratch2;
"""

RESET_CLIENT = "delete from {s}.watched; delete from {s}.dflt;"

DATABASE_SETTINGS = ["search_path = sh, public", "lock_timeout = '20s'", "app.db = 'of the database'"]


def schemas(client):
    return f"c{client}a", f"c{client}b"


def build():
    """Statements that make all objects of one database."""
    text = [COMMON]
    for client in range(CLIENTS):
        first, second = schemas(client)
        text += [PER_SCHEMA.format(s=first), PER_CLIENT.format(s=first), PER_SCHEMA.format(s=second)]
        text.append(f"grant all on all tables in schema {second} to public; grant all on all sequences in schema {second} to public;")
    return "\n".join(text)


def clean(clients):
    """Statements that bring the objects of these clients back to where they began."""
    text = ["set client_min_messages = error; set lock_timeout = '60s';"]
    for client in clients:
        first, second = schemas(client)
        text += [RESET_SCHEMA.format(s=first), RESET_CLIENT.format(s=first), RESET_SCHEMA.format(s=second)]
        text.append(f"select lo_unlink(oid) from pg_largeobject_metadata where oid = {large_object(client)};")
    return "\n".join(text)


def large_object(client):
    return 900000 + client
