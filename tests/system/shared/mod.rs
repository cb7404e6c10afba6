//! The cluster shape whole: two feeders and two eaters that keep nothing on their disks, over a database, an object
//! store and memcached, with NGINX in front.
//!
//! - [`storm`]: everything is killed, stopped and cut off now and then.
//! - [`fenced`]: an eater that hangs for so long that it is declared dead.
//! - [`roaming`]: a device that changes feeder and eater while its frames are in flight.
//! - [`visible`]: what is acknowledged is seen at once, whichever eater is asked.
//! - [`revoked`]: rights that are taken away, with memcached and without.
//! - [`environments`]: two deployments on one memcached.
//! - [`full`]: memcached without room.
//! - [`live`]: live streams of one eater show what all eaters commit.

mod environments;
mod fenced;
mod full;
mod live;
mod revoked;
mod roaming;
mod storm;
mod visible;
