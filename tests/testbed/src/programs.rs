//! The Go programs: where they are kept, how they are built, and how to tell that they are there.
//!
//! Programs that share dependency versions form a group, built together from `go/<group>` (or by `go install` at a pinned
//! version). A group's key is a hash of all that determines it, so an edit rebuilds its own group and nothing else, and
//! checkouts share what is equal. Builds are written to a temporary directory and renamed, under a lock per group.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

/// A program of the test bed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// etcd
    Etcd,
    /// kube-apiserver
    Apiserver,
    /// kube-controller-manager
    ControllerManager,
    /// kube-scheduler
    Scheduler,
    /// kubectl
    Kubectl,
    /// kwok
    Kwok,
    /// azure-aci on Virtual Kubelet
    VirtualNode,
}

impl Program {
    const fn file(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Apiserver => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubectl => "kubectl",
            Self::Kwok => "kwok",
            Self::VirtualNode => "virtual-node",
        }
    }

    const fn group(self) -> &'static Group {
        match self {
            Self::Apiserver | Self::ControllerManager | Self::Scheduler | Self::Kubectl => &KUBERNETES,
            Self::Etcd => &ETCD,
            Self::Kwok => &KWOK,
            Self::VirtualNode => &VIRTUAL_NODE,
        }
    }
}

struct Group {
    name: &'static str,
    source: Source,
    ldflags: &'static str,
    /// What it yields, and the package of each.
    programs: &'static [(Program, &'static str)],
}

enum Source {
    /// A module of this repository, in `go/<name>`.
    Module,
    /// A published module at a version, whose own requirements are used.
    Published(&'static str),
}

static KUBERNETES: Group = Group {
    name: "kubernetes",
    source: Source::Module,
    // Without a version, kubectl finds the server's unreadable.
    ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
              -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36 \
              -X k8s.io/client-go/pkg/version.gitVersion=v1.36.3",
    programs: &[
        (Program::Apiserver, "k8s.io/kubernetes/cmd/kube-apiserver"),
        (Program::ControllerManager, "k8s.io/kubernetes/cmd/kube-controller-manager"),
        (Program::Scheduler, "k8s.io/kubernetes/cmd/kube-scheduler"),
        (Program::Kubectl, "k8s.io/kubernetes/cmd/kubectl"),
    ],
};
static ETCD: Group = Group {
    name: "etcd",
    source: Source::Module,
    ldflags: "-s -w",
    programs: &[(Program::Etcd, "go.etcd.io/etcd/server/v3")],
};
static VIRTUAL_NODE: Group = Group {
    name: "virtual-node",
    source: Source::Module,
    ldflags: "-s -w",
    programs: &[(Program::VirtualNode, ".")],
};
static KWOK: Group = Group {
    name: "kwok",
    source: Source::Published("v0.8.0"),
    ldflags: "-s -w",
    programs: &[(Program::Kwok, "sigs.k8s.io/kwok/cmd/kwok")],
};
static GROUPS: [&Group; 4] = [&ETCD, &VIRTUAL_NODE, &KWOK, &KUBERNETES];

/// The directory where built programs are kept, and what is in it.
#[derive(Debug, Clone)]
pub struct Programs {
    cache: PathBuf,
}

impl Programs {
    /// The programs of this machine: in `STINT_TESTBED_CACHE`, or else in the user's cache directory.
    ///
    /// # Errors
    /// When neither `STINT_TESTBED_CACHE`, `XDG_CACHE_HOME` nor `HOME` is set.
    pub fn of_this_machine() -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = variable("STINT_TESTBED_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("stint-testbed")))
            .or_else(|| variable("HOME").map(|home| home.join(".cache/stint-testbed")))
            .context("no place for the test bed's programs: set STINT_TESTBED_CACHE or HOME")?;
        Ok(Self { cache })
    }

    /// Where a program is.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn path(&self, program: Program) -> Result<PathBuf> {
        let group = program.group();
        let path = self.directory(group)?.join("bin").join(program.file());
        ensure!(
            path.exists(),
            "the test bed's {} is not built (looked for {}); build it with `cargo run -p testbed -- build`, \
             or run the tests with tests/run, which does",
            program.file(),
            path.display()
        );
        Ok(path)
    }

    /// Builds what is missing, telling on standard error what it does.
    ///
    /// # Errors
    /// When Go is missing or a build fails.
    pub fn build_missing(&self) -> Result<()> {
        fs::create_dir_all(&self.cache).with_context(|| format!("cannot create {}", self.cache.display()))?;
        let mut built = 0;
        for group in GROUPS {
            built += usize::from(self.build_group(group)?);
        }
        if built == 0 {
            eprintln!("test bed: all programs are built, in {}", self.cache.display());
        }
        Ok(())
    }

    fn build_group(&self, group: &Group) -> Result<bool> {
        let directory = self.directory(group)?;
        if directory.exists() {
            return Ok(false);
        }
        let lock = File::create(self.cache.join(format!("{}.lock", group.name)))?;
        lock.lock().context("cannot lock the test bed's cache")?;
        if directory.exists() {
            return Ok(false); // another build made it while this one waited for the lock
        }

        eprintln!("test bed: building {} (once, it takes a while)", group.name);
        let started = Instant::now();
        let scratch = tempfile::Builder::new()
            .prefix(&format!(".{}-", group.name))
            .tempdir_in(&self.cache)
            .context("cannot create a directory to build in")?;
        let bin = scratch.path().join("bin");
        fs::create_dir(&bin)?;
        go_build(group, &bin)?;
        fs::rename(scratch.keep(), &directory)?;
        eprintln!("test bed: built {} in {} s", group.name, started.elapsed().as_secs());
        Ok(true)
    }

    fn directory(&self, group: &Group) -> Result<PathBuf> {
        Ok(self.cache.join(format!("{}-{}", group.name, key(group)?)))
    }
}

fn go_build(group: &Group, bin: &Path) -> Result<()> {
    let mut go = Command::new("go");
    go.env("CGO_ENABLED", "0").env("GOWORK", "off").env("GOFLAGS", "-buildvcs=false");
    match group.source {
        Source::Module => {
            go.current_dir(module(group)).arg("build");
            // `go build -o DIR/` names each program after its package, which a single one need not agree with.
            match group.programs {
                [(program, _)] => go.arg("-o").arg(bin.join(program.file())),
                _ => go.arg("-o").arg(bin.join("")),
            };
        }
        Source::Published(_) => {
            go.env("GOBIN", bin).current_dir(bin).arg("install");
        }
    }
    go.args(["-trimpath", "-ldflags", group.ldflags]);
    for (_, package) in group.programs {
        match group.source {
            Source::Module => go.arg(package),
            Source::Published(version) => go.arg(format!("{package}@{version}")),
        };
    }
    let status = go.status().context("cannot run go; the test bed is built with Go 1.26 or newer")?;
    if !status.success() {
        bail!("go could not build the test bed's {}: {status}", group.name);
    }
    Ok(())
}

fn module(group: &Group) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("go").join(group.name)
}

/// A hash of all that determines what a group's build yields, save the version of Go.
fn key(group: &Group) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(group.ldflags);
    for (_, package) in group.programs {
        hash.update(package);
    }
    match group.source {
        Source::Published(version) => hash.update(version),
        Source::Module => {
            let module = module(group);
            let mut files: Vec<_> = fs::read_dir(&module)
                .with_context(|| format!("cannot read {}", module.display()))?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<std::io::Result<_>>()?;
            files.sort();
            for file in files {
                hash.update(file.file_name().unwrap_or_default().as_encoded_bytes());
                hash.update(fs::read(&file)?);
            }
        }
    }
    Ok(hex::encode(&hash.finalize()[..8]))
}
