-- Sample data for development; the tables come from the migrations.
INSERT INTO users (email, full_name, is_active) VALUES
  ('admin@example.com', 'Admin User', true),
  ('user@example.com', 'Regular User', true);
