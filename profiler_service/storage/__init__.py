"""The store: domain objects in and out; all SQL lives here."""
