"""Sets on disk: records, shards and their manifest."""
