"""The store: takes and returns domain objects. Only this package contains SQL."""
