//! Events over the network.

pub mod openmetrics;
