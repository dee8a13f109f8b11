"""Everything behind the broker: ingest, consolidation, export, and the processes that run them."""
