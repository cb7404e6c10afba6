//! Preview environments: slots of one cluster, each a namespace of a team's own. Who has which stands in a file in git;
//! what follows from that file is rendered beside it; and whoever forgets a slot finds it asleep, never empty.

pub mod activity;
pub mod claim;
pub mod kubernetes;
pub mod look;
pub mod office;
pub mod rendering;
pub mod slots;
pub mod sweep;
pub mod workloads;
