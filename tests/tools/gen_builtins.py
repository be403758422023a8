#!/usr/bin/env python3
"""Writes src/sql/builtins.inc: what each function that PostgreSQL itself brings may do.

    PGHOST=... PGPORT=... tests/tools/gen_builtins.py > src/sql/builtins.inc

An allow-list (rule F3): a function is READ only when it is immutable or stable and none of the patterns below names it,
or when HARMLESS names it.  Volatility alone is wrong both ways: pg_stat_get_* is stable, random() is volatile.  A name
stands for all its overloads.  Every list was read by hand against PostgreSQL 15; a function that a later release adds
is unknown, which means the primary.
"""
import re
import subprocess
import sys

# Volatile, and the same on a replica or allowed to differ (DECISIONS.md).
HARMLESS = """random clock_timestamp timeofday gen_random_uuid pg_sleep pg_sleep_for pg_sleep_until pg_partition_tree
    pg_partition_ancestors bernoulli system"""

# C1: a transaction that moves would show another value.
TIME = """now transaction_timestamp age"""

# F3: answers about this server, its session, its disks or its place in the cluster.
STATE = r"""pg_stat_get_.* pg_stat_have_stats pg_stat_file pg_show_.* pg_settings_get_flags pg_current_snapshot
    pg_current_xact_id_if_assigned txid_current_if_assigned txid_current_snapshot pg_xact_status txid_status
    pg_xact_commit_timestamp.* pg_last_committed_xact inet_server_.* inet_client_.* pg_backend_pid
    pg_postmaster_start_time pg_conf_load_time pg_listening_channels pg_notification_queue_usage pg_cursor
    pg_prepared_statement pg_prepared_xact pg_my_temp_schema pg_get_replication_slots
    pg_replication_origin_progress pg_replication_origin_session_progress pg_replication_origin_session_is_setup
    pg_tablespace_location pg_tablespace_databases pg_is_in_recovery pg_is_wal_replay_paused
    pg_get_wal_replay_pause_state pg_last_wal_.* pg_last_xact_replay_timestamp pg_current_wal_.* pg_walfile_name.*
    pg_get_wal_resource_managers pg_control_.* pg_lock_status pg_blocking_pids pg_safe_snapshot_blocking_pids
    pg_isolation_test_session_is_blocked pg_current_logfile pg_hba_file_rules pg_ident_file_mappings pg_config
    pg_get_backend_memory_contexts pg_get_shmem_allocations pg_get_multixact_members pg_jit_available
    pg_ls_.* pg_read_file pg_read_file_old pg_read_binary_file pg_timezone_names pg_timezone_abbrevs
    pg_available_extensions pg_available_extension_versions pg_extension_update_paths
    pg_collation_actual_version pg_database_collation_actual_version version
    pg_database_size pg_indexes_size pg_relation_size pg_table_size pg_tablespace_size pg_total_relation_size
    pg_relation_filepath pg_relation_filenode pg_filenode_relation pg_sequence_last_value currtid2 current_query
    pg_trigger_depth"""

# Refused by a standby, or with an effect that only the primary may have.
WRITE = r"""nextval setval pg_notify txid_current pg_current_xact_id lo_.* lowrite loread
    pg_logical_emit_message pg_switch_wal pg_create_restore_point brin_.*_range brin_summarize_new_values
    gin_clean_pending_list pg_import_system_collations pg_extension_config_dump pg_nextoid
    pg_stop_making_pinned_objects binary_upgrade_.* pg_replication_origin_.* pg_.*_logical_replication_slot
    pg_logical_slot_.*"""

# F2, A7: a standby would allow it, and it must not happen there, or not twice.
SIDE = r"""pg_advisory_.* pg_try_advisory_.* pg_cancel_backend pg_terminate_backend pg_reload_conf pg_rotate_logfile.*
    pg_stat_reset.* pg_stat_clear_snapshot pg_stat_force_next_flush pg_backup_start pg_backup_stop
    pg_create_physical_replication_slot pg_copy_.*_replication_slot pg_drop_replication_slot
    pg_replication_slot_advance pg_wal_replay_pause pg_wal_replay_resume pg_promote pg_log_backend_memory_contexts
    lo_export lo_import lo_open lo_close lo_lseek.* lo_tell.*"""

SESSION = """set_config setseed currval lastval"""
SETTING = """current_setting"""
# SQL or relation names in arguments: what it reads cannot be seen.
TEXT = r"""query_to_xml.* table_to_xml.* schema_to_xml.* database_to_xml.* cursor_to_xml.* ts_stat ts_rewrite"""
SNAPSHOT = """pg_export_snapshot"""
# Input functions that reach a type's own functions by its OID, and what no query calls.
OPAQUE = r"""(record|array|domain|range|multirange)_(in|recv) RI_FKey_.* .*_trigger tsvector_update_trigger.*
    unique_key_recheck fmgr_.*_validator .*_validator .*_call_handler .*_inline_handler
    pg_event_trigger_.* amvalidate"""
# Reads, through text search objects that users may define.
TEXT_SEARCH = r"""to_tsvector to_tsquery plainto_tsquery phraseto_tsquery websearch_to_tsquery ts_headline ts_lexize
    ts_parse ts_token_type ts_debug jsonb?_to_tsvector ts_match_tt ts_match_tq"""

# First match wins.
CLASSES = [("SNAPSHOT", SNAPSHOT), ("SIDE", SIDE), ("WRITE", WRITE), ("SESSION", SESSION), ("SETTING", SETTING),
           ("TEXT", TEXT), ("STATE", STATE), ("OPAQUE", OPAQUE), ("TIME", TIME), ("TEXT_SEARCH", TEXT_SEARCH),
           ("READ", HARMLESS)]

# What a session is left with (enum sql_pin); 0 for all others.
PINS = [("SETTING", "set_config"), ("SETSEED", "setseed"), ("SEQUENCE", "currval lastval"),
        ("ADVISORY_LOCK", "pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared"),
        ("UNKNOWN", r"(query|cursor|table|schema|database)_to_xml.* ts_stat ts_rewrite pg_backup_start pg_backup_stop binary_upgrade_.*"
                    r" pg_create_.*_slot pg_copy_.*_slot pg_replication_origin_session_.* pg_stop_making_pinned_objects")]


def first_match(rows, name):
    for label, patterns in rows:
        if any(re.fullmatch(p, name) for p in patterns.split()):
            return label
    return None


def psql(query):
    done = subprocess.run(["psql", "-XAtqF", "\t", "-c", query], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return [line.split("\t") for line in done.stdout.splitlines()]


def main():
    rows = psql("""SELECT proname, string_agg(DISTINCT provolatile::text, ''),
                          bool_or(pronargs >= 1 AND pronargs - pronargdefaults <= 1)
                   FROM pg_proc WHERE oid < 16384 GROUP BY 1 ORDER BY proname COLLATE "C" """)
    version = psql("SHOW server_version")[0][0].split()[0]
    unreviewed = [n for n, v, _ in rows if "v" in v and not first_match(CLASSES, n) and not n.endswith("handler")
                  and not n.startswith("dsnowball")]
    if unreviewed:
        sys.exit("volatile and in no list: " + " ".join(unreviewed))
    print(f"/* builtins.inc - generated by tests/tools/gen_builtins.py from the catalog of PostgreSQL {version}.\n"
          " * BUILTIN(name, class, takes one argument, pins), sorted by name. */")
    line = ""
    for name, volatility, one in rows:
        kind = first_match(CLASSES, name) or ("OPAQUE" if "v" in volatility else "READ")
        pins = first_match(PINS, name)
        pins = "SQL_PIN_" + pins if pins else 0
        entry = f"BUILTIN({name}, {kind}, {int(one == 't')}, {pins})"
        if len(line) + len(entry) + 1 > 118:
            print(line)
            line = ""
        line += (" " if line else "") + entry
    print(line)


main()
