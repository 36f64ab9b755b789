//! Objects as they are kept, and what of their metadata the server reads and writes.

use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// One state of an object. Its text is made once, for all who ask for it.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) value: Value,
    pub(super) version: u64,
    text: OnceLock<Bytes>,
}

impl Stored {
    /// This state, as of this version.
    pub(super) fn new(mut value: Value, version: u64) -> Self {
        set(&mut value, "resourceVersion", json!(version.to_string()));
        Self { value, version, text: OnceLock::new() }
    }

    /// As JSON.
    pub(super) fn text(&self) -> Bytes {
        self.text.get_or_init(|| Bytes::from(self.value.to_string())).clone()
    }

    /// Its UID.
    pub(super) fn uid(&self) -> &str {
        text_of(&self.value, "uid")
    }
}

/// A field of the metadata.
pub(super) fn field<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.get("metadata")?.get(name).filter(|value| !value.is_null())
}

/// A text of the metadata; empty where it is absent.
pub(super) fn text_of<'a>(object: &'a Value, name: &str) -> &'a str {
    field(object, name).and_then(Value::as_str).unwrap_or_default()
}

/// Sets a field of the metadata; null takes it away.
pub(super) fn set(object: &mut Value, name: &str, value: Value) {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Some(fields) = object.as_object_mut() else { return };
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    let Some(metadata) = metadata.as_object_mut() else { return };
    if value.is_null() {
        metadata.remove(name);
    } else {
        metadata.insert(name.to_owned(), value);
    }
}

/// Whether something still has to be done before the object may go.
pub(super) fn has_finalizers(object: &Value) -> bool {
    field(object, "finalizers").and_then(Value::as_array).is_some_and(|all| !all.is_empty())
}

/// The UIDs of an object's owners.
pub(super) fn owners(object: &Value) -> Vec<String> {
    let all = field(object, "ownerReferences").and_then(Value::as_array);
    all.into_iter().flatten().filter_map(|owner| Some(owner.get("uid")?.as_str()?.to_owned())).collect()
}

/// Whether two states differ in what they want: everything but metadata and status.
pub(super) fn wants_other(one: &Value, other: &Value) -> bool {
    fn wants(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
        object.as_object().into_iter().flatten().filter(|(name, _)| *name != "metadata" && *name != "status")
    }
    wants(one).count() != wants(other).count()
        || wants(one).any(|(name, value)| other.get(name) != Some(value))
}

/// Changes a value as a JSON merge patch (RFC 7386) says.
pub(super) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(fields) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}
