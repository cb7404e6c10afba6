mod damage;
mod format;
mod parquet;
mod reading;
pub(crate) mod world;
mod writing;
