//! Whether a document has the form that its kind's schema asks for: what a cluster's API server says of it, for
//! documents from a directory. Patterns and rules across fields are read in `resolve`.

use kube::CustomResourceExt;
use serde_json::{Map, Value};

/// The first thing in a document's spec that its kind's schema does not allow.
///
/// # Errors
/// The field's path, what is wrong with it, and how it should be.
pub(super) fn check<K: CustomResourceExt>(spec: &Value) -> Result<(), String> {
    let definition = serde_json::to_value(K::crd()).unwrap_or_default();
    let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec");
    schema.map_or(Ok(()), |schema| value(spec, schema, "spec"))
}

fn value(given: &Value, schema: &Value, path: &str) -> Result<(), String> {
    let flag = |name: &str| schema.get(name).and_then(Value::as_bool).unwrap_or(false);
    if flag("x-kubernetes-preserve-unknown-fields") && given.is_object() {
        return Ok(());
    }
    if given.is_null() {
        return if flag("nullable") {
            Ok(())
        } else {
            Err(format!("{path} is empty: give it a value or remove it"))
        };
    }
    let wanted = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    match (wanted, given) {
        ("object", Value::Object(fields)) => object(fields, schema, path),
        ("array", Value::Array(items)) => list(items, schema, path),
        ("string", Value::String(text)) => string(text, schema, path),
        ("integer", Value::Number(number)) if number.is_i64() || number.is_u64() => {
            integer(number.as_f64().unwrap_or_default(), schema, path)
        }
        ("boolean", Value::Bool(_)) | ("", _) => Ok(()),
        ("string", Value::Number(_) | Value::Bool(_)) => {
            Err(format!("{path} must be text: write it in quotes, as \"{given}\""))
        }
        (wanted, _) => Err(format!("{path} must be {}, and is {}", article(wanted), article(kind_of(given)))),
    }
}

fn object(fields: &Map<String, Value>, schema: &Value, path: &str) -> Result<(), String> {
    let none = Map::new();
    let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let any = schema.get("additionalProperties");
    for (name, given) in fields {
        match known.get(name).or(any) {
            Some(schema) => value(given, schema, &format!("{path}.{name}"))?,
            None => {
                let names: Vec<&str> = known.keys().map(String::as_str).collect();
                return Err(format!(
                    "{path}.{name}: there is no such field here; there are {}",
                    names.join(", ")
                ));
            }
        }
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    match required.filter_map(Value::as_str).find(|name| !fields.contains_key(*name)) {
        Some(missing) => Err(format!("{path}.{missing} is missing")),
        None => Ok(()),
    }
}

fn list(items: &[Value], schema: &Value, path: &str) -> Result<(), String> {
    bounds(items.len(), schema, ("minItems", "maxItems"), "entries", path)?;
    let Some(schema) = schema.get("items") else { return Ok(()) };
    items.iter().enumerate().try_for_each(|(index, item)| value(item, schema, &format!("{path}[{index}]")))
}

fn string(text: &str, schema: &Value, path: &str) -> Result<(), String> {
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.iter().any(|one| one.as_str() == Some(text))
    {
        let words: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        return Err(format!("{path}: {text:?} is not known: it must be {}", words.join(" or ")));
    }
    bounds(text.chars().count(), schema, ("minLength", "maxLength"), "characters", path)
}

fn integer(number: f64, schema: &Value, path: &str) -> Result<(), String> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    match (bound("minimum"), bound("maximum")) {
        (Some(least), _) if number < least => Err(format!("{path}: {number} is too small: at least {least}")),
        (_, Some(most)) if number > most => Err(format!("{path}: {number} is too large: at most {most}")),
        _ => Ok(()),
    }
}

fn bounds(
    length: usize,
    schema: &Value,
    (least, most): (&str, &str),
    of: &str,
    path: &str,
) -> Result<(), String> {
    let bound =
        |name: &str| schema.get(name).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok());
    match (bound(least), bound(most)) {
        (Some(least), _) if length < least && length == 0 => {
            Err(format!("{path} is empty: give it a value or remove it"))
        }
        (Some(least), _) if length < least => Err(format!("{path} has {length} {of}: at least {least}")),
        (_, Some(most)) if length > most => Err(format!("{path} has {length} {of}: at most {most}")),
        _ => Ok(()),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The words of a schema's types, for people.
fn article(kind: &str) -> &str {
    match kind {
        "object" => "a map of fields",
        "array" => "a list",
        "string" => "text",
        "integer" => "a whole number",
        "boolean" => "true or false",
        "number" => "a number",
        other => other,
    }
}
