"""Steps of the request store's schema, for Alembic: never edited once released, only added to."""
