"""The leak test: random session state through the proxy, compared with the same program on private connections."""
