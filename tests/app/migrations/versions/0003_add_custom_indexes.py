"""Add custom indexes"""
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INDEXES = {
    "idx_users_email": "users(email)",
    "idx_users_active_created": "users(is_active, created_at DESC)",
    "idx_users_name_search": "users USING gin(to_tsvector('english', full_name))",
    "idx_orders_user_status": "orders(user_id, status)",
    "idx_orders_created_amount": "orders(created_at DESC, total_amount)",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, on in INDEXES.items():
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {on}")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY {name}")
