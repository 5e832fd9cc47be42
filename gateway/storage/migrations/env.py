"""What Alembic runs: it writes the steps for one dialect; `gateway.storage.schema` executes them."""

from alembic import context

context.configure(
    dialect_name=context.config.attributes["dialect"],
    output_buffer=context.config.output_buffer,
    transactional_ddl=False,
    literal_binds=True,
)
context.run_migrations()
