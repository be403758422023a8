-- Create application-specific database user
CREATE USER fastapi_app WITH PASSWORD 'secure_password';

-- Grant minimal required permissions
GRANT CONNECT ON DATABASE fastapi_dev TO fastapi_app;
GRANT USAGE ON SCHEMA public TO fastapi_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO fastapi_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO fastapi_app;

-- Revoke unnecessary permissions
REVOKE CREATE ON SCHEMA public FROM fastapi_app;
