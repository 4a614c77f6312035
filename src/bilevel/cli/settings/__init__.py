"""Tables of a configuration: one class for each name that a table can have."""
