//! Containers are processes; none of them, and nothing of theirs, outlives the emulator.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use emulator_azure::{GroupState, ImageRule, Options};
use reqwest::Method;
use serde_json::json;

use crate::support::{AGENT, DEADLINE, GROUPS, client, get, gone, group, options, put, send, start};

#[tokio::test]
async fn environment_volumes_and_logs_are_those_of_the_request() {
    let azure = start(options()).await;
    let mut body = group("shows:1");
    body["properties"]["volumes"] = json!([{ "name": "stint", "secret": { "jitconfig": "c2VjcmV0Cg==" } }, { "name": "work", "emptyDir": {} }]);
    let container = &mut body["properties"]["containers"][0]["properties"];
    container["environmentVariables"] =
        json!([{ "name": "V", "value": "plain" }, { "name": "S", "secureValue": "secure" }]);
    container["volumeMounts"] =
        json!([{ "name": "stint", "mountPath": "/run/stint" }, { "name": "work", "mountPath": "/work" }]);
    put(&azure, "g", body).await;
    azure.wait_for("ended", DEADLINE, |groups| groups[0].state == GroupState::Succeeded).await.unwrap();
    let logs = send(&azure, Method::GET, &format!("{GROUPS}/g/containers/runner/logs"), None).await;
    let text = logs.body["content"].as_str().unwrap().to_owned();
    assert!(text.starts_with("v=plain s=secure\nsecret\ndrwx------ "), "{text}");
    let tail =
        send(&azure, Method::GET, &format!("{GROUPS}/g/containers/runner/logs?tail=1&timestamps=true"), None)
            .await;
    let line = tail.body["content"].as_str().unwrap().to_owned();
    assert_eq!(line.lines().count(), 1);
    assert!(line.starts_with("20") && line.contains("Z drwx------"), "{line}");
    assert!(!azure.directory().exists(), "the directories of an ended group are gone");
}

#[tokio::test]
async fn a_containers_own_command_is_used_unless_the_image_says_otherwise() {
    let images = vec![
        ImageRule { ignore_container_command: true, ..ImageRule::runs("fixed:*", ["sh", "-c", "exit 4"]) },
        ImageRule::runs("*", ["sh", "-c", "exit 5"]),
    ];
    let azure = start(Options { images, ..options() }).await;
    for (name, image) in [("fixed", "fixed:1"), ("own", "any:1"), ("missing", "any:1")] {
        let mut body = group(image);
        let command =
            if name == "missing" { json!(["/no/such/program"]) } else { json!(["sh", "-c", "exit 6"]) };
        body["properties"]["containers"][0]["properties"]["command"] = command;
        put(&azure, name, body).await;
    }
    azure
        .wait_for("ended", DEADLINE, |groups| groups.iter().all(|group| group.state == GroupState::Failed))
        .await
        .unwrap();
    let code = |name: &str| azure.group(name).unwrap().containers[0].exit_code;
    assert_eq!((code("fixed"), code("own"), code("missing")), (Some(4), Some(6), Some(127)));
}

#[tokio::test]
async fn dropping_the_handle_kills_everything() {
    let azure = start(options()).await;
    put(&azure, "a", group("sleeps:1")).await;
    put(&azure, "b", group("stubborn:1")).await;
    let groups = azure
        .wait_for("running", DEADLINE, |groups| groups.iter().all(|group| group.state == GroupState::Running))
        .await
        .unwrap();
    let pids: Vec<u32> = groups.iter().filter_map(|group| group.containers[0].pid).collect();
    let directory = azure.directory();
    assert_eq!(directory.join("a-1").metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let mut all = children(&pids);
    all.extend(&pids);
    drop(azure);
    for pid in all {
        gone(pid).await;
    }
    assert!(!directory.exists());
}

/// The processes whose parent is one of `parents`.
fn children(parents: &[u32]) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent: u32 = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        parents.contains(&parent).then_some(pid)
    })
    .collect()
}

#[tokio::test]
async fn nothing_is_left_when_the_emulator_is_killed() {
    let scratch = std::env::temp_dir().join(format!("killed-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).unwrap();
    let mut emulator = Command::new(env!("CARGO_BIN_EXE_emulator-azure"))
        .args(["--port", "0", "--time-scale", "0.005", "--agent", AGENT])
        .args(["--image", "sleeps:*=sleep 600"])
        .env("TMPDIR", &scratch)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(emulator.stdout.take().unwrap()).lines();
    let url = lines.next().unwrap().unwrap().replace("ARM_ENDPOINT=", "");
    let client = client();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut agent = group("agent:1");
    agent["properties"]["volumes"] = json!([{ "name": "stint", "secret": { "jitconfig": jit(&format!("http://{}", silent.local_addr().unwrap())) } }]);
    agent["properties"]["containers"][0]["properties"]["volumeMounts"] =
        json!([{ "name": "stint", "mountPath": "/run/stint" }]);
    for (name, body) in [("agent", agent), ("sleeps", group("sleeps:1"))] {
        let path = format!("{url}{GROUPS}/{name}?api-version=2023-05-01");
        let answer = client.put(path).bearer_auth("token").json(&body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 201);
    }
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let pids = loop {
        let groups: Vec<emulator_azure::GroupView> =
            client.get(format!("{url}/_emulator/groups")).send().await.unwrap().json().await.unwrap();
        let pids: Vec<u32> = groups.iter().filter_map(|group| group.containers[0].pid).collect();
        let mut all = children(&pids);
        if pids.len() == 2 && !all.is_empty() {
            all.extend(pids);
            break all;
        }
        assert!(tokio::time::Instant::now() < deadline, "{groups:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    emulator.kill().unwrap();
    emulator.wait().unwrap();
    for pid in pids {
        gone(pid).await;
    }
    let left: Vec<_> = std::fs::read_dir(&scratch).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    std::fs::remove_dir(&scratch).unwrap();
}

/// A JIT config whose server takes connections and never answers, as a secret volume holds it.
fn jit(server: &str) -> String {
    let json = |value: serde_json::Value| STANDARD.encode(value.to_string());
    let config = json(json!({
        ".runner": json(json!({ "serverUrl": server })),
        ".credentials": json(json!({ "token": "x" })),
    }));
    STANDARD.encode(config)
}

#[tokio::test]
async fn logs_of_an_ended_container_shrink() {
    let images = vec![ImageRule::runs("*", ["sh", "-c", "seq 1 5000"])];
    let azure = start(Options { images, ..options() }).await;
    put(&azure, "g", group("any:1")).await;
    azure.wait_for("ended", DEADLINE, |groups| groups[0].state == GroupState::Succeeded).await.unwrap();
    let logs = send(&azure, Method::GET, &format!("{GROUPS}/g/containers/runner/logs"), None).await;
    let text = logs.body["content"].as_str().unwrap().to_owned();
    assert_eq!(text.lines().count(), 1000);
    assert!(text.ends_with("\n5000\n"));
    assert_eq!(get(&azure, "g").await.status.as_u16(), 200);
}
