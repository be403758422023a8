-- Run once on a new server, as the owner of fastapi_dev.
-- Create additional databases for testing
CREATE DATABASE fastapi_test;

-- Grant permissions
GRANT ALL PRIVILEGES ON DATABASE fastapi_dev TO fastapi_user;
GRANT ALL PRIVILEGES ON DATABASE fastapi_test TO fastapi_user;

-- Create extensions
\c fastapi_dev;
CREATE EXTENSION IF NOT EXISTS "uuid-ossp";
CREATE EXTENSION IF NOT EXISTS "pgcrypto";
