"""What the integration tests stand on: real PostgreSQL servers, the proxy, a raw protocol client and a faulty network."""
