//! Whole-system tests: one file for each group of scenarios, which stand numbered at its top.

#![allow(clippy::unwrap_used, reason = "in a test, a panic with its place is the report")]

mod bus_memcached;
mod database;
mod demo;
mod deploy;
mod disk;
mod documents;
mod doorbells;
mod drain;
mod encounters;
mod fairness;
mod floods;
mod fsck;
mod golden;
mod handshakes;
mod history;
mod kills;
mod links;
mod live;
mod memory;
mod memory_loss;
mod nginx;
mod object_catalog_mongo;
mod objects_s3;
mod objects_swift;
mod openapi;
mod presence;
mod queries;
mod raw;
mod reading;
mod registry_mongo;
mod repair;
mod retention;
mod segment_catalog_mongo;
mod sequences;
mod shared;
mod stalls;
mod tickets;
mod tls;
mod tokens;
