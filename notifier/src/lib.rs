//! Turns what happened into pushes and webhooks.
