//! The CustomResourceDefinitions: that the committed ones are the types', and that an API server would take them.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails with it")]

use std::path::Path;

use serde_json::Value;
use stint::config::crds;

fn definitions() -> Vec<Value> {
    crds::all().iter().map(|definition| serde_json::to_value(definition).unwrap()).collect()
}

fn kind(definition: &Value) -> &str {
    definition.pointer("/spec/names/kind").and_then(Value::as_str).unwrap()
}

/// Calls with every schema and its path, the outermost first.
fn every_schema(schema: &Value, path: &str, seen: &mut dyn FnMut(&Value, &str)) {
    seen(schema, path);
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        every_schema(property, &format!("{path}.{name}"), seen);
    }
    if let Some(items) = schema.get("items") {
        every_schema(items, &format!("{path}[]"), seen);
    }
    if let Some(any) = schema.get("additionalProperties").filter(|any| any.is_object()) {
        every_schema(any, &format!("{path}.*"), seen);
    }
}

fn in_every_schema(mut check: impl FnMut(&Value, &str)) {
    for definition in definitions() {
        let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap();
        every_schema(schema, kind(&definition), &mut check);
    }
}

#[test]
fn the_committed_definitions_are_those_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/install/crds.yaml");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let generated = crds::yaml().unwrap();
    let differs = committed.lines().zip(generated.lines()).position(|(one, other)| one != other);
    assert!(
        committed == generated,
        "docs/install/crds.yaml is not what the types say (first difference: line {}); write it anew: \
         cargo run -p stint -- crds > docs/install/crds.yaml",
        differs.unwrap_or_else(|| committed.lines().count().min(generated.lines().count())) + 1
    );
}

#[test]
fn every_kind_is_namespaced_and_of_one_version() {
    for definition in definitions() {
        let kind = kind(&definition);
        let at = |path: &str| definition.pointer(path).and_then(Value::as_str).unwrap_or_default();
        assert_eq!(at("/spec/scope"), "Namespaced", "{kind}");
        assert_eq!(at("/spec/group"), "stint.dev", "{kind}");
        assert_eq!(at("/spec/versions/0/name"), "v1alpha1", "{kind}");
        assert_eq!(at("/metadata/name"), format!("{}.stint.dev", at("/spec/names/plural")), "{kind}");
        assert_eq!(definition.pointer("/spec/versions/1"), None, "{kind}");
    }
}

#[test]
fn kubectl_get_stint_shows_every_kind_that_people_read() {
    let listed: Vec<String> = definitions()
        .iter()
        .filter(|definition| {
            let categories = definition.pointer("/spec/names/categories").and_then(Value::as_array);
            categories.is_some_and(|categories| categories.iter().any(|one| one == "stint"))
        })
        .map(|definition| kind(definition).to_owned())
        .collect();
    assert_eq!(
        listed,
        ["RunnerSource", "RunnerClass", "RunnerPlace", "ConcurrencyLimit", "Budget", "RunnerJob", "Runner"]
    );
}

#[test]
fn every_kind_but_admission_has_a_status_of_its_own() {
    for definition in definitions() {
        let kind = kind(&definition);
        let has = definition.pointer("/spec/versions/0/subresources/status").is_some();
        assert_eq!(has, kind != "Admission", "{kind}");
    }
}

#[test]
fn every_printer_column_points_at_a_field_of_its_type() {
    for definition in definitions() {
        let kind = kind(&definition);
        let columns =
            definition.pointer("/spec/versions/0/additionalPrinterColumns").and_then(Value::as_array);
        let columns = columns.unwrap_or_else(|| panic!("{kind} has no printer columns"));
        assert_eq!(columns.last().and_then(|column| column.get("name")).unwrap(), "Age", "{kind}");
        for column in columns {
            let of = |field: &str| column.get(field).and_then(Value::as_str).unwrap();
            let path = of("jsonPath");
            if path == ".metadata.creationTimestamp" {
                continue;
            }
            let mut schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap();
            for step in path.trim_start_matches('.').split('.') {
                let next = schema.pointer(&format!("/properties/{step}"));
                schema = next.unwrap_or_else(|| panic!("{kind}: {path} has no {step}"));
            }
            let found = schema.get("type").and_then(Value::as_str).unwrap();
            let shown_as = if found == "integer" { "integer" } else { "string" };
            assert_eq!(of("type"), shown_as, "{kind}: {path} is of type {found}");
        }
    }
}

/// What the API server asks of a structural schema.
#[test]
fn every_schema_is_structural() {
    in_every_schema(|schema, path| {
        for word in ["$ref", "oneOf", "anyOf", "allOf", "not", "definitions", "$defs", "$schema"] {
            assert_eq!(schema.get(word), None, "{path} has {word}");
        }
        let loose = |word: &str| schema.get(word) == Some(&Value::Bool(true));
        let open = loose("x-kubernetes-preserve-unknown-fields") || loose("x-kubernetes-int-or-string");
        assert!(schema.get("type").is_some_and(Value::is_string) || open, "{path} has no type");
        assert!(
            schema.get("properties").is_none() || schema.get("additionalProperties").is_none(),
            "{path} has both properties and additionalProperties"
        );
        if schema.get("type").is_some_and(|of| of == "array") {
            assert!(schema.get("items").is_some(), "{path} says nothing of its items");
        }
    });
}

#[test]
fn a_pod_template_alone_keeps_fields_that_no_schema_names() {
    let mut open = Vec::new();
    in_every_schema(|schema, path| {
        if schema.get("x-kubernetes-preserve-unknown-fields").is_some() {
            open.push(path.to_owned());
        }
    });
    assert_eq!(open, ["RunnerClass.spec.podTemplate"]);
}

#[test]
fn a_required_field_is_neither_nullable_nor_defaulted() {
    in_every_schema(|schema, path| {
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            let name = name.as_str().unwrap();
            let field = schema.pointer(&format!("/properties/{name}"));
            let field = field.unwrap_or_else(|| panic!("{path} requires {name}, which it does not have"));
            assert_eq!(field.get("nullable"), None, "{path}.{name}");
            assert_eq!(field.get("default"), None, "{path}.{name}");
        }
    });
}

#[test]
fn every_field_of_a_document_is_described() {
    for definition in definitions().iter().take(5) {
        let spec = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
        let path = format!("{}.spec", kind(definition));
        every_schema(spec, &path, &mut |schema, path| {
            let inner = path.ends_with("[]") || path.ends_with(".*");
            assert!(inner || schema.get("description").is_some(), "{path} is not described");
        });
    }
}

#[test]
fn rules_across_fields_say_what_to_do() {
    let mut rules = 0;
    in_every_schema(|schema, path| {
        for rule in schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
            rules += 1;
            assert!(rule.get("message").is_some_and(|message| message.is_string()), "{path}: {rule}");
        }
    });
    assert_eq!(
        rules, 6,
        "RunnerSource has two; RunnerClass, RunnerPlace, ConcurrencyLimit and Budget one each"
    );
}
