//! The command line of each process, and the manifests that some of them read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::credentials::Credentials;
use super::ports::Ports;
use super::process::CommandLine;
use super::store;
use crate::options::{Options, VirtualNode, VmNode};
use crate::programs::{Program, Programs};
use crate::wire::Component;

/// Which controllers run: what a Kubernetes without workloads of its own needs, and `Job` for tests that want one.
const CONTROLLERS: [&str; 8] = [
    "clusterrole-aggregation-controller", // fills `view`, `edit` and `admin`
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "node-lifecycle-controller", // removes the not-ready taint from a new node
    "pod-garbage-collector-controller",
    "serviceaccount-controller", // makes `default`, without which no pod is admitted
    "taint-eviction-controller",
];

/// The annotation by which kwok knows the nodes that are its own.
const KWOK_ANNOTATION: (&str, &str) = ("kwok.x-k8s.io/node", "fake");

const STAGES: [(&str, &str); 5] = [
    ("node-ready.yaml", include_str!("../../stages/node-ready.yaml")),
    ("node-heartbeat.yaml", include_str!("../../stages/node-heartbeat.yaml")),
    ("pod-run.yaml", include_str!("../../stages/pod-run.yaml")),
    ("pod-end.yaml", include_str!("../../stages/pod-end.yaml")),
    ("pod-delete.yaml", include_str!("../../stages/pod-delete.yaml")),
];

/// The loopback ports that the supervisor itself asks.
#[derive(Debug)]
pub(super) struct ServingPorts {
    pub(super) apiserver: u16,
    pub(super) controller_manager: u16,
    pub(super) scheduler: u16,
}

/// The command lines of a cluster's processes.
#[derive(Debug)]
pub(super) struct Components {
    pub(super) command_lines: BTreeMap<Component, CommandLine>,
    pub(super) ports: ServingPorts,
}

impl Components {
    /// Picks ports and writes down how each process is started.
    pub(super) fn new(
        programs: &Programs,
        options: &Options,
        directory: &Path,
        credentials: &Credentials,
        ports: &mut Ports,
    ) -> Result<Self> {
        let etcd = format!("http://127.0.0.1:{}", ports.take()?);
        let etcd_peers = format!("http://127.0.0.1:{}", ports.take()?);
        let serving = ServingPorts {
            apiserver: ports.take()?,
            controller_manager: ports.take()?,
            scheduler: ports.take()?,
        };
        let kubeconfig =
            credentials.write_kubeconfigs(directory, &format!("https://127.0.0.1:{}", serving.apiserver))?;
        let context = Context { directory, credentials, kubeconfig: &kubeconfig };

        let mut command_lines = BTreeMap::new();
        let mut add = |component, program, arguments| -> Result<()> {
            let program = programs.path(program)?;
            command_lines.insert(component, CommandLine { program, arguments });
            Ok(())
        };
        add(Component::Etcd, Program::Etcd, context.etcd(&etcd, &etcd_peers))?;
        add(
            Component::Apiserver,
            Program::Apiserver,
            context.apiserver(&etcd, &serving, &options.apiserver_flags),
        )?;
        let controller_manager = context.controller_manager(&serving, &options.controller_manager_flags);
        add(Component::ControllerManager, Program::ControllerManager, controller_manager)?;
        add(Component::Scheduler, Program::Scheduler, context.scheduler(&serving)?)?;
        if !options.vm_nodes.is_empty() {
            add(Component::Kwok, Program::Kwok, context.kwok()?)?;
        }
        for node in &options.virtual_nodes {
            let component = Component::VirtualNode(node.node_name.clone());
            add(component, Program::VirtualNode, context.virtual_node(node, ports.take()?))?;
        }
        Ok(Self { command_lines, ports: serving })
    }
}

struct Context<'a> {
    directory: &'a Path,
    credentials: &'a Credentials,
    kubeconfig: &'a Path,
}

impl Context<'_> {
    fn etcd(&self, clients: &str, peers: &str) -> Vec<String> {
        vec![
            flag("data-dir", store::data(self.directory).display()),
            flag("listen-client-urls", clients),
            flag("advertise-client-urls", clients),
            flag("listen-peer-urls", peers),
            flag("initial-advertise-peer-urls", peers),
            flag("initial-cluster", format!("default={peers}")),
            flag("log-level", "warn"),
            "--unsafe-no-fsync".to_owned(), // nothing here outlives its test
        ]
    }

    fn apiserver(&self, etcd: &str, ports: &ServingPorts, more: &[String]) -> Vec<String> {
        let mut flags = self.serving(ports.apiserver);
        flags.extend([
            flag("advertise-address", "127.0.0.1"),
            flag("allow-privileged", true),
            flag("authorization-mode", "RBAC"),
            flag("client-ca-file", self.credentials.ca_file.display()),
            flag("endpoint-reconciler-type", "none"),
            flag("etcd-servers", etcd),
            flag("service-account-issuer", "https://kubernetes.default.svc"),
            flag("service-account-key-file", self.credentials.service_account_public_key_file.display()),
            flag("service-account-signing-key-file", self.credentials.service_account_key_file.display()),
            flag("service-cluster-ip-range", "10.0.0.0/24"),
            flag("token-auth-file", self.credentials.token_file.display()),
        ]);
        flags.extend_from_slice(more);
        flags
    }

    fn controller_manager(&self, ports: &ServingPorts, more: &[String]) -> Vec<String> {
        let mut flags = self.serving(ports.controller_manager);
        flags.extend([
            flag("controllers", CONTROLLERS.join(",")),
            flag("kube-api-burst", 400),
            flag("kube-api-qps", 200),
            flag("kubeconfig", self.kubeconfig.display()),
            flag("leader-elect", false),
            flag("node-monitor-period", "1s"), // a new node takes pods sooner
            flag("root-ca-file", self.credentials.ca_file.display()),
            flag("service-account-private-key-file", self.credentials.service_account_key_file.display()),
        ]);
        flags.extend_from_slice(more);
        flags
    }

    fn scheduler(&self, ports: &ServingPorts) -> Result<Vec<String>> {
        let configuration = json!({
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": self.kubeconfig, "qps": 1000, "burst": 2000},
            "leaderElection": {"leaderElect": false},
        });
        let path = self.directory.join("scheduler.yaml");
        fs::write(&path, configuration.to_string())?;
        let mut flags = self.serving(ports.scheduler);
        flags.push(flag("config", path.display()));
        Ok(flags)
    }

    fn kwok(&self) -> Result<Vec<String>> {
        let (annotation, value) = KWOK_ANNOTATION;
        let mut flags = vec![
            flag("kubeconfig", self.kubeconfig.display()),
            flag("manage-all-nodes", false),
            flag("manage-nodes-with-annotation-selector", format!("{annotation}={value}")),
            flag("node-lease-duration-seconds", 40),
        ];
        for (name, stage) in STAGES {
            let path: PathBuf = self.directory.join(name);
            fs::write(&path, stage)?;
            flags.push(flag("config", path.display()));
        }
        Ok(flags)
    }

    fn virtual_node(&self, node: &VirtualNode, kubelet_port: u16) -> Vec<String> {
        let mut flags = vec![
            flag("arm-endpoint", &node.arm_endpoint),
            flag("arm-token", &node.arm_token),
            flag("kubeconfig", self.kubeconfig.display()),
            flag("listen", format!("127.0.0.1:{kubelet_port}")),
            flag("node-name", &node.node_name),
            flag("region", &node.region),
            flag("resource-group", &node.resource_group),
            flag("subscription", &node.subscription),
            flag("tls-cert", self.credentials.serving_certificate_file.display()),
            flag("tls-key", self.credentials.serving_key_file.display()),
        ];
        flags.extend(node.labels.iter().map(|(key, value)| flag("label", format!("{key}={value}"))));
        flags
    }

    fn serving(&self, port: u16) -> Vec<String> {
        vec![
            flag("bind-address", "127.0.0.1"),
            flag("secure-port", port),
            flag("tls-cert-file", self.credentials.serving_certificate_file.display()),
            flag("tls-private-key-file", self.credentials.serving_key_file.display()),
        ]
    }
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

/// The object of a VM node. kwok makes it Ready.
pub(super) fn vm_node_object(node: &VmNode) -> Value {
    let mut labels = BTreeMap::from([
        ("kubernetes.io/arch", "amd64"),
        ("kubernetes.io/hostname", &node.name),
        ("kubernetes.io/os", "linux"),
    ]);
    labels.extend(node.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let resources = json!({"cpu": node.cpu, "memory": node.memory, "pods": node.pods.to_string()});
    let (annotation, value) = KWOK_ANNOTATION;
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": labels, "annotations": {annotation: value}},
        "spec": {"taints": node.taints},
        "status": {"capacity": resources, "allocatable": resources},
    })
}
