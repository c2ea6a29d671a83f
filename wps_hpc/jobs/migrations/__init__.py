"""How a job database comes to the shape of ``tables``: alembic's environment and its numbered versions."""
