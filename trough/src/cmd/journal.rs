//! `trough journal`: what can be done to a journal while its eater is stopped.
