/* catalog_queries.c - what is asked of a database, for PostgreSQL 14 to 18.
 *
 * Objects below OID 16384 are PostgreSQL's own: their functions are in builtins.inc, their views are read like any
 * other. Kinds in an edge: F function, O operator, I reading a type's values, M making them (domain checks run),
 * R reading a relation, W writing it, X text search, A anything at all. */
#include "base/check.h"
#include "catalog_priv.h"

/* Everything below is qualified but operators; those, and what pg_get_viewdef() qualifies, follow search_path. */
const char catalog_prologue[] = "SET LOCAL search_path = pg_catalog; SET LOCAL standard_conforming_strings = on;"
                                "SET LOCAL quote_all_identifiers = off; SET LOCAL jit = off";

/* clang-format off */
/* Overloading.  A user's function or operator that shares name and number of arguments with one of PostgreSQL's own, and
 * takes a type that no literal is ever read as, can only be meant where a value of that type is at hand: its `needs`.
 * Without this, one extension's operator = would make every = of the database suspicious. */
#define NEEDS(types)                                                                                              \
	"(SELECT pg_catalog.string_agg(CASE WHEN t.typelem <> 0 AND t.typcategory = 'A' THEN t.typelem"           \
	"   ELSE t.oid END::pg_catalog.text, ' ') FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type x"       \
	"   ON x.oid = t.typelem AND t.typcategory = 'A' WHERE t.oid = ANY (" types ") AND t.oid >= 16384"        \
	"   AND COALESCE(x.typcategory, t.typcategory) IN ('U', 'E', 'C', 'R')"        \
	"   AND COALESCE(x.typtype, t.typtype) <> 'd' AND NOT COALESCE(x.typispreferred, t.typispreferred)"     \
	"   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_cast c WHERE c.castcontext = 'i' AND c.castsource < 16384" \
	"     AND c.casttarget = COALESCE(x.oid, t.oid)))"

/* clang-format on */

static const char functions[] =
    "SELECT p.oid, n.nspname, p.proname, p.prokind, p.provolatile, l.lanname, l.lanpltrusted, e.extname,"
    "  pg_catalog.array_to_string(p.proconfig, E'\\n'),"
    "  CASE WHEN l.lanname IN ('sql', 'plpgsql', 'internal') THEN p.prosrc END,"
    "  CASE WHEN p.prosqlbody IS NOT NULL THEN pg_catalog.pg_get_function_sqlbody(p.oid) END,"
    "  pg_catalog.pg_get_expr(p.proargdefaults, 0),"
    "  CASE WHEN p.provariadic = 0 AND p.pronargdefaults = 0 AND EXISTS (SELECT 1 FROM pg_catalog.pg_proc b"
    "    WHERE b.oid < 16384 AND b.proname = p.proname AND b.pronargs = p.pronargs AND b.provariadic = 0)"
    "  THEN " NEEDS("p.proargtypes::pg_catalog.oid[]") " END"
                                                       " FROM pg_catalog.pg_proc p"
                                                       " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
                                                       " JOIN pg_catalog.pg_language l ON l.oid = p.prolang"
                                                       " LEFT JOIN pg_catalog.pg_depend d ON d.classid = "
                                                       "'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid"
                                                       "   AND d.deptype = 'e'"
                                                       " LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid"
                                                       " WHERE p.oid >= 16384 ORDER BY p.oid";

static const char operators[] =
    "SELECT o.oid, n.nspname, o.oprname,"
    "  CASE WHEN o.oid >= 16384 AND EXISTS (SELECT 1 FROM pg_catalog.pg_operator b"
    "    WHERE b.oid < 16384 AND b.oprname = o.oprname AND b.oprkind = o.oprkind)"
    "  THEN " NEEDS(
        "ARRAY[o.oprleft, o.oprright]") " END FROM pg_catalog.pg_operator o"
                                        " JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace ORDER BY o.oid";

static const char types[] = "SELECT t.oid, n.nspname, t.typname FROM pg_catalog.pg_type t"
                            " JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace"
                            " WHERE n.nspname !~ '^pg_(toast|temp)' ORDER BY t.oid";

static const char relations[] =
    "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, a.amname, c.relrowsecurity,"
    "  CASE WHEN c.relkind = 'v' THEN pg_catalog.pg_get_viewdef(c.oid) END, c.reltype"
    " FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam"
    " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_toast'"
    " ORDER BY c.oid";

/* F4: columns that share their name with something that might be called instead. */
static const char columns[] =
    "SELECT a.attrelid, a.attname FROM pg_catalog.pg_attribute a"
    " JOIN pg_catalog.pg_class c ON c.oid = a.attrelid"
    " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND NOT a.attisdropped"
    "   AND EXISTS (SELECT 1 FROM pg_catalog.pg_proc p WHERE p.proname = a.attname"
    "     AND (p.oid >= 16384 OR p.provolatile <> 'i'))"
    " ORDER BY a.attrelid, a.attnum";

/* P: policies that a read meets.  D: domain checks.  G: virtual generated columns.  W: defaults that use the session.
 */
static const char texts[] =
    "SELECT 'P', polrelid, pg_catalog.pg_get_expr(polqual, polrelid) FROM pg_catalog.pg_policy p"
    " JOIN pg_catalog.pg_class c ON c.oid = p.polrelid"
    " WHERE c.relrowsecurity AND polqual IS NOT NULL AND polcmd IN ('*', 'r')"
    " UNION ALL SELECT 'D', contypid, pg_catalog.pg_get_expr(conbin, 0) FROM pg_catalog.pg_constraint"
    " WHERE contypid <> 0 AND conbin IS NOT NULL"
    " UNION ALL SELECT 'G', adrelid, pg_catalog.pg_get_expr(adbin, adrelid) FROM pg_catalog.pg_attrdef"
    " JOIN pg_catalog.pg_attribute ON attrelid = adrelid AND attnum = adnum WHERE attgenerated = 'v'"
    " UNION ALL SELECT 'W', adrelid, x FROM pg_catalog.pg_attrdef,"
    " LATERAL pg_catalog.pg_get_expr(adbin, adrelid) x WHERE x ~ '(set_config|setseed|currval|lastval|advisory)'"
    " ORDER BY 1, 2, 3";

/* clang-format off */
/* A function in an edge: by OID when it is a user's, else by name. */
#define FUNCTION_EDGES(kind, oid, function, from)                                                                 \
	"SELECT '" kind "', " oid ", 'F', p.oid, n.nspname, p.proname FROM " from                                 \
	" JOIN pg_catalog.pg_proc p ON p.oid = " function                                                         \
	" JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace "
#define PLAIN_EDGES(kind, oid, to, to_oid)                                                                        \
	"SELECT '" kind "', " oid ", '" to "', " to_oid ", NULL, NULL FROM "
/* pg_depend to an edge: of which class is what is referred to. */
#define DEPEND_KIND                                                                                               \
	"CASE d.refclassid WHEN 'pg_catalog.pg_proc'::pg_catalog.regclass THEN 'F'"                               \
	" WHEN 'pg_catalog.pg_operator'::pg_catalog.regclass THEN 'O'"                                            \
	" WHEN 'pg_catalog.pg_type'::pg_catalog.regclass THEN 'M'"                                                \
	" WHEN 'pg_catalog.pg_class'::pg_catalog.regclass THEN 'R' END"
#define DEPEND_EDGES(kind, oid, class, from, object)                                                              \
	"SELECT " kind ", " oid ", " DEPEND_KIND ", d.refobjid, NULL, NULL FROM " from                            \
	" JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog." class "'::pg_catalog.regclass"                 \
	"   AND d.objid = " object                                                                                \
	" WHERE d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass,"                                      \
	"   'pg_catalog.pg_operator'::pg_catalog.regclass, 'pg_catalog.pg_type'::pg_catalog.regclass,"            \
	"   'pg_catalog.pg_class'::pg_catalog.regclass)"                                                          \
	" AND d.refobjid <> " oid " AND d.deptype IN ('n', 'a') "
#define ORDER " ORDER BY 1, 2, 3, 4, 5, 6"

static const char edges_of_functions[] =
	FUNCTION_EDGES("F", "aggfnoid::pg_catalog.oid", "f",
		"pg_catalog.pg_aggregate, LATERAL (VALUES (aggtransfn::pg_catalog.oid), (aggfinalfn), (aggcombinefn),"
		" (aggserialfn), (aggdeserialfn), (aggmtransfn), (aggminvtransfn), (aggmfinalfn)) v(f)")
	" WHERE aggfnoid::pg_catalog.oid >= 16384"
	/* Types of arguments and results, defaults, BEGIN ATOMIC bodies. */
	" UNION " DEPEND_EDGES("'F'", "p.oid", "pg_proc", "pg_catalog.pg_proc p", "p.oid") " AND p.oid >= 16384"
	" UNION "
	FUNCTION_EDGES("O", "o.oid", "f",
		"pg_catalog.pg_operator o, LATERAL (VALUES (oprcode::pg_catalog.oid), (oprrest), (oprjoin)) v(f)")
	" WHERE o.oid >= 16384"
	/* The planner may put one for the other. */
	" UNION " PLAIN_EDGES("O", "oid", "O", "oprnegate") "pg_catalog.pg_operator WHERE oid >= 16384 AND oprnegate <> 0"
	" UNION " PLAIN_EDGES("O", "oid", "O", "oprcom") "pg_catalog.pg_operator WHERE oid >= 16384 AND oprcom <> 0" ORDER;

static const char edges_of_types[] =
	FUNCTION_EDGES("I", "t.oid", "f",
		"pg_catalog.pg_type t, LATERAL (VALUES (typinput::pg_catalog.oid), (typoutput), (typreceive), (typsend),"
		" (typmodin), (typmodout), (typsubscript)) v(f)")
	" WHERE t.oid >= 16384 AND t.typtype = 'b' AND t.typelem = 0"
	/* What sorting, grouping and comparing call without a name. */
	" UNION "
	FUNCTION_EDGES("I", "c.opcintype", "m.amproc",
		"pg_catalog.pg_opclass c JOIN pg_catalog.pg_amproc m ON m.amprocfamily = c.opcfamily"
		" AND c.opcintype IN (m.amproclefttype, m.amprocrighttype)")
	" WHERE c.opcintype >= 16384"
	" UNION " PLAIN_EDGES("I", "c.opcintype", "O", "m.amopopr")
	"pg_catalog.pg_opclass c JOIN pg_catalog.pg_amop m ON m.amopfamily = c.opcfamily"
	" AND c.opcintype IN (m.amoplefttype, m.amoprighttype) WHERE c.opcintype >= 16384 AND m.amopopr >= 16384 UNION "
	FUNCTION_EDGES("I", "rngtypid", "f",
		"pg_catalog.pg_range, LATERAL (VALUES (rngcanonical::pg_catalog.oid), (rngsubdiff)) v(f)")
	" WHERE rngtypid >= 16384 UNION "
	FUNCTION_EDGES("I", "rngtypid", "m.amproc",
		"pg_catalog.pg_range JOIN pg_catalog.pg_opclass c ON c.oid = rngsubopc AND c.oid >= 16384"
		" JOIN pg_catalog.pg_amproc m ON m.amprocfamily = c.opcfamily")
	" UNION " PLAIN_EDGES("I", "oid", "I", "typelem") "pg_catalog.pg_type WHERE typelem >= 16384"
	" UNION " PLAIN_EDGES("M", "oid", "M", "typelem") "pg_catalog.pg_type WHERE typelem >= 16384"
	" UNION " PLAIN_EDGES("I", "oid", "I", "typbasetype") "pg_catalog.pg_type WHERE typbasetype >= 16384"
	" UNION " PLAIN_EDGES("M", "oid", "M", "typbasetype") "pg_catalog.pg_type WHERE typbasetype >= 16384"
	" UNION " PLAIN_EDGES("I", "rngtypid", "I", "rngsubtype") "pg_catalog.pg_range WHERE rngsubtype >= 16384"
	" UNION " PLAIN_EDGES("M", "rngtypid", "M", "rngsubtype") "pg_catalog.pg_range WHERE rngsubtype >= 16384"
	" UNION " PLAIN_EDGES("M", "rngmultitypid", "M", "rngtypid") "pg_catalog.pg_range WHERE rngtypid >= 16384"
	" UNION " PLAIN_EDGES("I", "rngmultitypid", "I", "rngtypid") "pg_catalog.pg_range WHERE rngtypid >= 16384"
	" UNION " PLAIN_EDGES("I", "t.oid", "I", "atttypid") "pg_catalog.pg_type t JOIN pg_catalog.pg_attribute"
	" ON attrelid = typrelid AND NOT attisdropped AND atttypid >= 16384 WHERE typrelid <> 0"
	" UNION " PLAIN_EDGES("M", "t.oid", "M", "atttypid") "pg_catalog.pg_type t JOIN pg_catalog.pg_attribute"
	" ON attrelid = typrelid AND NOT attisdropped AND atttypid >= 16384 WHERE typrelid <> 0"
	" UNION " DEPEND_EDGES("'M'", "k.contypid", "pg_constraint", "pg_catalog.pg_constraint k", "k.oid")
	" AND k.contypid <> 0 AND d.refobjid >= 16384" ORDER;

/* A cast is told by its types.  One that must be written names its target; one from a user's type needs a value of it.
 * An implicit one between builtin types may run anywhere. */
static const char edges_of_casts[] =
	FUNCTION_EDGES("I", "castsource", "castfunc", "pg_catalog.pg_cast c")
	" WHERE c.oid >= 16384 AND castsource >= 16384 AND (castcontext <> 'e' OR casttarget < 16384) UNION "
	FUNCTION_EDGES("M", "casttarget", "castfunc", "pg_catalog.pg_cast c")
	" WHERE c.oid >= 16384 AND (castsource < 16384 OR casttarget >= 16384) UNION "
	FUNCTION_EDGES("I", "casttarget", "castfunc", "pg_catalog.pg_cast c")
	" WHERE c.oid >= 16384 AND castsource < 16384 AND casttarget >= 16384 AND castcontext <> 'e' UNION "
	/* Without a function too: where a value of one type may stand for the other. */
	PLAIN_EDGES("I", "castsource", "I", "casttarget") "pg_catalog.pg_cast"
	" WHERE castsource >= 16384 AND casttarget >= 16384 AND castcontext = 'i' UNION "
	FUNCTION_EDGES("A", "0::pg_catalog.oid", "castfunc", "pg_catalog.pg_cast c")
	" WHERE c.oid >= 16384 AND castsource < 16384 AND casttarget < 16384 AND castcontext <> 'e' UNION "
	FUNCTION_EDGES("X", "0::pg_catalog.oid", "f",
		"pg_catalog.pg_ts_template t, LATERAL (VALUES (tmplinit::pg_catalog.oid), (tmpllexize)) v(f)")
	" WHERE t.oid >= 16384 UNION "
	FUNCTION_EDGES("X", "0::pg_catalog.oid", "f",
		"pg_catalog.pg_ts_parser t, LATERAL (VALUES (prsstart::pg_catalog.oid), (prstoken), (prsend), (prsheadline),"
		" (prslextype)) v(f)")
	" WHERE t.oid >= 16384" ORDER;

#define USER_OPCLASSES                                                                                            \
	"(SELECT indrelid, indclass::pg_catalog.oid[] FROM pg_catalog.pg_index UNION ALL"                         \
	" SELECT partrelid, partclass::pg_catalog.oid[] FROM pg_catalog.pg_partitioned_table) x(relation, classes)" \
	" JOIN pg_catalog.pg_opclass c ON c.oid >= 16384 AND c.opcintype < 16384 AND c.oid = ANY (x.classes)"

static const char edges_of_relations[] =
	/* Rules: of a view's SELECT, and of writes. */
	DEPEND_EDGES("CASE r.ev_type WHEN '1' THEN 'R' ELSE 'W' END", "r.ev_class", "pg_rewrite",
		"pg_catalog.pg_rewrite r", "r.oid")
	/* An updatable view hands writes on. */
	" UNION SELECT 'W', r.ev_class, 'W', d.refobjid, NULL, NULL FROM pg_catalog.pg_rewrite r"
	" JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid"
	" AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass WHERE d.refobjid <> r.ev_class AND r.oid >= 16384"
	" UNION " DEPEND_EDGES("'R'", "p.polrelid", "pg_policy", "pg_catalog.pg_policy p", "p.oid")
	" AND (SELECT relrowsecurity FROM pg_catalog.pg_class WHERE oid = p.polrelid)"
	" UNION "
	DEPEND_EDGES("CASE WHEN a.attgenerated = 'v' THEN 'R' ELSE 'W' END", "f.adrelid", "pg_attrdef",
		"pg_catalog.pg_attrdef f JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum",
		"f.oid")
	" AND d.refobjid >= 16384 UNION "
	DEPEND_EDGES("'W'", "k.conrelid", "pg_constraint", "pg_catalog.pg_constraint k", "k.oid")
	" AND k.conrelid <> 0 AND k.contype = 'c' AND d.refobjid >= 16384 UNION "
	DEPEND_EDGES("'W'", "x.indrelid", "pg_class", "pg_catalog.pg_index x", "x.indexrelid")
	" AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid >= 16384"
	" UNION " PLAIN_EDGES("R", "inhparent", "R", "inhrelid") "pg_catalog.pg_inherits"
	" UNION " PLAIN_EDGES("W", "inhparent", "W", "inhrelid") "pg_catalog.pg_inherits"
	" UNION " PLAIN_EDGES("R", "attrelid", "I", "atttypid") "pg_catalog.pg_attribute JOIN pg_catalog.pg_class c"
	" ON c.oid = attrelid WHERE NOT attisdropped AND atttypid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
	" UNION " PLAIN_EDGES("W", "attrelid", "M", "atttypid") "pg_catalog.pg_attribute JOIN pg_catalog.pg_class c"
	" ON c.oid = attrelid WHERE NOT attisdropped AND atttypid >= 16384 AND c.relkind IN ('r', 'p', 'f')"
	" UNION " FUNCTION_EDGES("W", "t.tgrelid", "t.tgfoid", "pg_catalog.pg_trigger t") " WHERE NOT t.tgisinternal"
	/* Cascades. */
	" UNION " PLAIN_EDGES("W", "confrelid", "W", "conrelid") "pg_catalog.pg_constraint WHERE contype = 'f'"
	" AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))"
	/* An index may compare values of a builtin type by a user's functions, and partitions may be found by them. */
	" UNION "
	FUNCTION_EDGES("R", "x.relation", "m.amproc", USER_OPCLASSES " JOIN pg_catalog.pg_amproc m ON m.amprocfamily = c.opcfamily")
	" UNION " PLAIN_EDGES("R", "x.relation", "O", "m.amopopr")
	USER_OPCLASSES " JOIN pg_catalog.pg_amop m ON m.amopfamily = c.opcfamily WHERE m.amopopr >= 16384"
	ORDER;
/* clang-format on */

const struct catalog_query catalog_queries[] = {
	[CATALOG_FUNCTIONS] = { "functions", functions, 13 },
	[CATALOG_OPERATORS] = { "operators", operators, 4 },
	[CATALOG_TYPES] = { "types", types, 3 },
	[CATALOG_RELATIONS] = { "relations", relations, 9 },
	[CATALOG_COLUMNS] = { "columns", columns, 2 },
	[CATALOG_TEXTS] = { "texts", texts, 3 },
	[CATALOG_FUNCTION_EDGES] = { "function edges", edges_of_functions, 6 },
	[CATALOG_TYPE_EDGES] = { "type edges", edges_of_types, 6 },
	[CATALOG_CAST_EDGES] = { "cast edges", edges_of_casts, 6 },
	[CATALOG_RELATION_EDGES] = { "relation edges", edges_of_relations, 6 },
};
const unsigned catalog_queries_count = ARRAY_LEN(catalog_queries);
