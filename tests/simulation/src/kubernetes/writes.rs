//! How a write changes what is there: preconditions, what a client may not set, finalizers, and grace.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::kinds::Kind;
use super::object::{Stored, field, has_finalizers, merge, set, text_of, wants_other};
use super::state::{State, in_seconds};

/// How long a pod that says nothing has to end, in seconds.
const GRACE_SECONDS: u64 = 30;

/// What a write that was carried out is answered with.
pub(super) enum Outcome {
    /// The object as it is now, or was.
    Object(u16, Arc<Stored>),
    /// That it is gone.
    Gone { kind: &'static Kind, name: String, uid: String },
}

type Written = Result<Outcome, Failure>;

impl State {
    pub(super) fn create(&mut self, kind: &'static Kind, mut value: Value) -> Written {
        let name = text_of(&value, "name").to_owned();
        if name.is_empty() {
            return Err(Failure::invalid(kind, "", "metadata.name: Required value: name is required"));
        }
        if !text_of(&value, "resourceVersion").is_empty() {
            return Err(Failure::version_on_creation());
        }
        if self.get(kind, &name).is_some() {
            return Err(Failure::already_exists(kind, &name));
        }
        for owned_by_the_server in
            ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
        {
            set(&mut value, owned_by_the_server, Value::Null);
        }
        if kind.status
            && let Some(fields) = value.as_object_mut()
        {
            fields.remove("status");
            if kind.kind == "Pod" {
                fields.insert("status".to_owned(), json!({"phase": "Pending"}));
            }
        }
        if has_generation(kind) {
            set(&mut value, "generation", json!(1));
        }
        encode(kind, &mut value);
        self.complete(kind, &mut value);
        Ok(Outcome::Object(201, self.store(kind, &name, value)))
    }

    pub(super) fn replace(&mut self, kind: &'static Kind, name: &str, value: Value, status: bool) -> Written {
        is_named(&value, name)?;
        let current = self.get(kind, name).cloned().ok_or_else(|| Failure::not_found(kind, name))?;
        if kind.custom && text_of(&value, "resourceVersion").is_empty() {
            let why = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
            return Err(Failure::invalid(kind, name, why));
        }
        self.update(kind, name, &current, value, status)
    }

    pub(super) fn patch(&mut self, kind: &'static Kind, name: &str, patch: Value, status: bool) -> Written {
        let current = self.get(kind, name).cloned().ok_or_else(|| Failure::not_found(kind, name))?;
        let mut value = current.value.clone();
        merge(&mut value, patch);
        self.update(kind, name, &current, value, status)
    }

    fn update(
        &mut self,
        kind: &'static Kind,
        name: &str,
        current: &Arc<Stored>,
        mut value: Value,
        status: bool,
    ) -> Written {
        if !value.is_object() {
            return Err(Failure::bad_request(format!("{}: the body is no object", kind.kind)));
        }
        is_named(&value, name)?;
        let (version, uid) = (text_of(&value, "resourceVersion"), text_of(&value, "uid"));
        if !version.is_empty() && version != current.version.to_string() {
            return Err(Failure::modified(kind, name));
        }
        if !uid.is_empty() && uid != current.uid() {
            return Err(if kind.custom {
                Failure::invalid(kind, name, "metadata.uid: Invalid value: field is immutable")
            } else {
                Failure::conflict(kind, name, &other_uid(uid, current))
            });
        }
        if status && kind.status {
            let mut with_status = current.value.clone();
            put(&mut with_status, "status", value.get("status"));
            value = with_status;
        } else if kind.status {
            put(&mut value, "status", current.value.get("status"));
        }
        for owned_by_the_server in [
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "name",
        ] {
            let known = field(&current.value, owned_by_the_server).cloned();
            set(&mut value, owned_by_the_server, known.unwrap_or(Value::Null));
        }
        encode(kind, &mut value);
        self.complete(kind, &mut value);
        // What changes nothing is not written.
        set(&mut value, "resourceVersion", json!(current.version.to_string()));
        if value == current.value {
            return Ok(Outcome::Object(200, current.clone()));
        }
        if has_generation(kind) && wants_other(&value, &current.value) {
            raise_generation(&mut value);
        }
        let grace = field(&value, "deletionGracePeriodSeconds").and_then(Value::as_u64).unwrap_or(0);
        if field(&value, "deletionTimestamp").is_some() && grace == 0 && !has_finalizers(&value) {
            // Nothing holds it any longer. The answer is what was asked for, with the version from before.
            self.remove(kind, name);
            return Ok(Outcome::Object(200, Arc::new(Stored::new(value, current.version))));
        }
        Ok(Outcome::Object(200, self.store(kind, name, value)))
    }

    /// Deletes an object as `DeleteOptions` say.
    pub(super) fn delete(&mut self, kind: &'static Kind, name: &str, options: &Value) -> Written {
        let current = self.get(kind, name).cloned().ok_or_else(|| Failure::not_found(kind, name))?;
        let precondition = |name: &str| options.get("preconditions")?.get(name)?.as_str();
        if let Some(uid) = precondition("uid").filter(|uid| *uid != current.uid()) {
            return Err(Failure::conflict(kind, name, &other_uid(uid, &current)));
        }
        let version = current.version.to_string();
        if let Some(wanted) = precondition("resourceVersion").filter(|wanted| *wanted != version) {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {version}"
            );
            return Err(Failure::conflict(kind, name, &why));
        }
        let grace = grace(kind, &current.value, options);
        let deleting = field(&current.value, "deletionTimestamp").is_some();
        let stays = grace > 0 || has_finalizers(&current.value);
        if !stays && kind.kind != "Pod" {
            self.remove(kind, name);
            return Ok(Outcome::Gone { kind, name: name.to_owned(), uid: current.uid().to_owned() });
        }
        let left = field(&current.value, "deletionGracePeriodSeconds").and_then(Value::as_u64);
        if stays && deleting && left.is_none_or(|left| left <= grace) {
            return Ok(Outcome::Object(200, current));
        }
        let mut value = current.value.clone();
        set(&mut value, "deletionTimestamp", json!(in_seconds(grace)));
        set(&mut value, "deletionGracePeriodSeconds", json!(grace));
        if has_generation(kind) && !deleting {
            raise_generation(&mut value);
        }
        let stored = self.store(kind, name, value);
        if stays {
            return Ok(Outcome::Object(200, stored));
        }
        // A pod is marked first, and then goes in the same request.
        self.remove(kind, name);
        Ok(Outcome::Object(200, Arc::new(Stored::new(stored.value.clone(), self.version))))
    }
}

/// Whether a body is about the object that the path names.
fn is_named(value: &Value, name: &str) -> Result<(), Failure> {
    let named = text_of(value, "name");
    if named.is_empty() || named == name {
        return Ok(());
    }
    let message = format!("the name of the object ({named}) does not match the name on the URL ({name})");
    Err(Failure::bad_request(message))
}

fn other_uid(wanted: &str, current: &Stored) -> String {
    format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {}", current.uid())
}

/// How long an object that is being deleted stays, in seconds: only a pod that has a node and has not ended does.
fn grace(kind: &Kind, object: &Value, options: &Value) -> u64 {
    let spec = |name: &str| object.get("spec").and_then(|spec| spec.get(name));
    let scheduled = spec("nodeName").and_then(Value::as_str).is_some_and(|node| !node.is_empty());
    let phase = object.get("status").and_then(|status| status.get("phase")?.as_str());
    if kind.kind != "Pod" || !scheduled || matches!(phase, Some("Succeeded" | "Failed")) {
        return 0;
    }
    let asked = options.get("gracePeriodSeconds").and_then(Value::as_u64);
    asked.or_else(|| spec("terminationGracePeriodSeconds").and_then(Value::as_u64)).unwrap_or(GRACE_SECONDS)
}

fn has_generation(kind: &Kind) -> bool {
    kind.custom || kind.kind == "Pod"
}

fn raise_generation(value: &mut Value) {
    let generation = field(value, "generation").and_then(Value::as_u64).unwrap_or(0);
    set(value, "generation", json!(generation + 1));
}

/// Sets a field at the top, or takes it away.
fn put(object: &mut Value, name: &str, value: Option<&Value>) {
    let Some(fields) = object.as_object_mut() else { return };
    match value.filter(|value| !value.is_null()) {
        Some(value) => drop(fields.insert(name.to_owned(), value.clone())),
        None => drop(fields.remove(name)),
    }
}

/// Turns what a Secret says in clear into what it keeps.
fn encode(kind: &Kind, value: &mut Value) {
    if kind.kind != "Secret" {
        return;
    }
    let Some(fields) = value.as_object_mut() else { return };
    let Some(Value::Object(clear)) = fields.remove("stringData") else { return };
    let data = fields.entry("data").or_insert_with(|| Value::Object(Map::new()));
    let Some(data) = data.as_object_mut() else { return };
    for (key, text) in clear {
        let text = text.as_str().unwrap_or_default();
        data.insert(key, json!(BASE64_STANDARD.encode(text)));
    }
}
