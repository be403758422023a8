-- Run once on a new primary: the roles and the two databases of the reference application.
-- Passwords come in as psql variables.
CREATE ROLE fastapi_user LOGIN PASSWORD :'app_password';
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'replication_password';
CREATE ROLE pgweir_monitor LOGIN PASSWORD :'monitor_password';
GRANT pg_monitor TO pgweir_monitor;

CREATE DATABASE fastapi_dev OWNER fastapi_user;
CREATE DATABASE fastapi_test OWNER fastapi_user;
GRANT ALL PRIVILEGES ON DATABASE fastapi_dev TO fastapi_user;
GRANT ALL PRIVILEGES ON DATABASE fastapi_test TO fastapi_user;

\c fastapi_dev
CREATE EXTENSION IF NOT EXISTS "uuid-ossp";
CREATE EXTENSION IF NOT EXISTS "pgcrypto";
\c fastapi_test
CREATE EXTENSION IF NOT EXISTS "uuid-ossp";
CREATE EXTENSION IF NOT EXISTS "pgcrypto";
