"""Files to items, annotations and labels, and back: one module a format, one module for where the files are.

Nothing here knows the broker, a task queue or a terminal. Import from the modules; see ``docs/formats.md`` and
``docs/storage.md``.
"""
