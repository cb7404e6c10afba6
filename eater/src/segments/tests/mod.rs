mod damage;
mod format;
mod parquet;
mod reading;
mod world;
mod writing;
