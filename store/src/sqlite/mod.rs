//! Registry and catalog in SQLite files, for a deployment of one machine.
