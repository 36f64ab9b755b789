//! End-to-end tests on the real parts: Kubernetes, the azure-aci virtual node, and the `stint` process; GitHub and Azure are
//! emulated over HTTP.

mod budgets;
mod burst;
mod check_runs;
mod configuration;
mod crashes;
mod deliveries;
mod demo;
mod endings;
mod flow;
mod kills;
mod limits;
mod mixed;
mod outage;
mod partitions;
mod peers;
mod places;
mod proxy;
mod quota;
mod replicas;
mod restores;
