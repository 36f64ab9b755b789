//! The least of Azure Resource Manager that azure-aci needs: container groups that run as soon as they are made.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

type Groups = Arc<Mutex<BTreeMap<String, Value>>>;

pub(crate) struct Arm {
    pub(crate) endpoint: String,
    groups: Groups,
}

impl Arm {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let groups = Groups::default();
        let shared = Arc::clone(&groups);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let groups = Arc::clone(&shared);
                thread::spawn(move || while answer(&stream, &groups).is_some() {});
            }
        });
        Self { endpoint, groups }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.groups.lock().unwrap().keys().cloned().collect()
    }
}

/// Answers one request; none when the client has closed the connection.
fn answer(mut stream: &TcpStream, groups: &Groups) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request).ok().filter(|length| *length > 0)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;

    let mut words = request.split_whitespace();
    let (method, target) = (words.next()?, words.next()?);
    let name = target.split('?').next()?.split_once("/containerGroups/").map(|(_, name)| name.to_owned());
    let (status, body) = respond(method, name, &body, &mut groups.lock().unwrap());
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()
}

fn respond(
    method: &str,
    name: Option<String>,
    body: &[u8],
    groups: &mut BTreeMap<String, Value>,
) -> (u16, Value) {
    let missing = (404, json!({"error": {"code": "ResourceNotFound", "message": "no such group"}}));
    match (method, name) {
        ("GET", None) => (200, json!({"value": groups.values().collect::<Vec<_>>()})),
        ("GET", Some(name)) => groups.get(&name).map_or(missing, |group| (200, group.clone())),
        ("PUT", Some(name)) => {
            let group = running(&name, serde_json::from_slice(body).unwrap());
            groups.insert(name, group.clone());
            (201, group)
        }
        ("DELETE", Some(name)) => match groups.remove(&name) {
            Some(group) => (200, group),
            None => (204, Value::Null),
        },
        _ => (405, json!({"error": {"code": "NotHere", "message": method}})),
    }
}

fn running(name: &str, mut group: Value) -> Value {
    group["id"] = format!(
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerInstance/containerGroups/{name}"
    )
    .into();
    group["name"] = name.into();
    group["properties"]["provisioningState"] = "Succeeded".into();
    group["properties"]["instanceView"] = json!({"state": "Running", "events": []});
    for container in group["properties"]["containers"].as_array_mut().unwrap() {
        let properties = &mut container["properties"];
        if properties["ports"].is_null() {
            properties["ports"] = json!([]);
        }
        properties["instanceView"] = json!({
            "restartCount": 0,
            "events": [],
            "currentState": {"state": "Running", "startTime": "2026-01-01T00:00:00Z", "exitCode": 0, "detailStatus": ""},
        });
    }
    group
}
