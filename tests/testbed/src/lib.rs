//! The test bed: a real Kubernetes control plane, a real azure-aci virtual node and fake VM nodes, as processes of this machine.
//!
//! `testbed build` makes the programs from pinned Go modules, once per content of those modules. `testbed up` is the
//! supervisor of one cluster: it starts the processes on free loopback ports in a temporary directory, says how to reach them in
//! one line of JSON, and takes everything down when its standard input ends. [`Cluster`] runs that supervisor for a test
//! and holds the other end of the pipe, so nothing outlives a test, however the test ends.
//!
//! ```text
//! test ── Cluster ──stdin/stdout──▶ testbed up ──▶ etcd, kube-apiserver, kube-controller-manager, kube-scheduler,
//!                                                  kwok (VM nodes), virtual-node (azure-aci ──▶ an ARM endpoint)
//! ```
//!
//! This crate is test code: nothing of it is in the controller's binary.

pub mod options;

mod cluster;
mod programs;
mod wire;

pub mod supervisor;

pub use cluster::Cluster;
pub use options::{Options, Taint, User, VirtualNode, VmNode};
pub use programs::{Program, Programs};
pub use wire::{ClusterInfo, Component};
