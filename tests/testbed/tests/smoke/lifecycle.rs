//! How clusters end: whatever happens to the test, no process and no directory stay.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use testbed::{Cluster, ClusterInfo, Options, VmNode};

use crate::eventually;

/// Whether a process is there and has not ended.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

fn remains(info: &ClusterInfo) -> Vec<String> {
    let processes = info.pids.iter().filter(|(_, pid)| lives(**pid)).map(|(component, _)| component.clone());
    let directory = Path::new(&info.directory).exists().then(|| info.directory.display().to_string());
    processes.chain(directory).collect()
}

#[test]
fn dropping_a_cluster_leaves_nothing() {
    let cluster = Cluster::start(Options::default().vm_node(VmNode::default())).unwrap();
    let info = cluster.info().clone();
    assert_eq!(info.pids.len(), 6, "{:?}", info.pids);
    assert!(info.pids.values().all(|pid| lives(*pid)));
    drop(cluster);
    assert_eq!(remains(&info), Vec::<String>::new());
}

#[test]
fn killing_the_process_that_holds_a_cluster_leaves_nothing() {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lifecycle::hold_a_cluster", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(holder.stdout.take().unwrap());
    let info: ClusterInfo = stdout
        .lines()
        .map_while(Result::ok)
        .find_map(|line| serde_json::from_str(&line[line.find('{')?..]).ok())
        .expect("the holder says how to reach its cluster");
    assert!(info.pids.values().all(|pid| lives(*pid)));

    kill_process(Pid::from_child(&holder), Signal::KILL).unwrap();
    holder.wait().unwrap();
    eventually("nothing remains", || remains(&info).is_empty().then_some(()));
}

#[test]
#[ignore = "run by killing_the_process_that_holds_a_cluster_leaves_nothing, which kills it"]
fn hold_a_cluster() {
    let cluster = Cluster::start(Options::default()).unwrap();
    println!("{}", serde_json::to_string(cluster.info()).unwrap());
    let _ = std::io::stdin().lines().next(); // until killed
}

#[test]
fn killing_the_supervisor_leaves_no_process() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let info = cluster.info().clone();
    let supervisor = Pid::from_raw(info.pids["supervisor"].cast_signed()).unwrap();
    kill_process(supervisor, Signal::KILL).unwrap();
    drop(cluster);
    eventually("no process remains", || info.pids.values().all(|pid| !lives(*pid)).then_some(()));

    let next = Cluster::start(Options::default()).unwrap();
    assert!(!info.directory.exists(), "the next cluster removes what the killed supervisor left");
    drop(next);
}

#[test]
fn a_cluster_that_cannot_start_says_why() {
    let options = Options { apiserver_flags: vec!["--no-such-flag".to_owned()], ..Options::default() };
    let error = Cluster::start(options).expect_err("kube-apiserver refuses the flag");
    let text = error.to_string();
    assert!(
        text.contains("kube-apiserver ended by itself") && text.contains("unknown flag: --no-such-flag"),
        "{text}"
    );
}
