#!/bin/bash
# Dumps $DATABASE_URL into $BACKUP_DIR, compressed, and keeps the dumps of the last 30 days.

set -e -o pipefail

BACKUP_DIR=${BACKUP_DIR:-/backups}
TIMESTAMP=$(date +%Y%m%d_%H%M%S)
BACKUP_FILE="$BACKUP_DIR/fastapi_backup_$TIMESTAMP.sql"

# Create backup directory
mkdir -p "$BACKUP_DIR"

# Create database backup, compressed
pg_dump "$DATABASE_URL" | gzip > "$BACKUP_FILE.gz"

# Keep only last 30 days of backups
find "$BACKUP_DIR" -name "fastapi_backup_*.sql.gz" -mtime +30 -delete

echo "Backup completed: ${BACKUP_FILE}.gz"
