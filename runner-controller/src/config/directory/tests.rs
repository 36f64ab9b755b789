use secrecy::ExposeSecret as _;

use super::*;

fn error(text: &str) -> String {
    format!("{:#}", parse(text).expect_err("it must be refused"))
}

#[track_caller]
fn refused(text: &str, words: &[&str]) {
    let error = error(text);
    for word in words {
        assert!(error.contains(word), "{word:?} is missing in: {error}");
    }
}

fn class(spec: &str) -> String {
    format!("kind: RunnerClass\nmetadata: {{name: c}}\nspec: {spec}\n")
}

#[test]
fn secrets_are_read_from_plain_text_and_from_base64() {
    let text = "
kind: Secret
apiVersion: v1
type: Opaque
metadata: {name: acme-app}
data: {privateKey: LS0ta2V5LS0t, webhookSecret: b2xk}
stringData: {appId: '7', webhookSecret: new}
";
    let (_, secrets) = parse(text).unwrap();
    let of = |key: &str| secrets["acme-app"].get(key).map(|value| value.expose_secret().to_owned());
    assert_eq!(of("privateKey").as_deref(), Some("---key---"));
    assert_eq!(of("appId").as_deref(), Some("7"));
    assert_eq!(of("webhookSecret").as_deref(), Some("new"), "as in Kubernetes, stringData wins");
}

#[test]
fn a_document_that_stands_twice_is_refused() {
    let one = class("{resources: {cpu: '1', memory: 1Gi}}");
    refused(&format!("{one}---\n{one}"), &["RunnerClass c", "twice"]);
    let secret = "kind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n";
    refused(&format!("{secret}---\n{secret}"), &["Secret s", "twice"]);
}

#[test]
fn what_is_no_document_of_ours_is_refused() {
    refused("kind: Deployment\nmetadata: {name: web}\n", &["Deployment web", "not known", "RunnerSource"]);
    refused("metadata: {name: x}\n", &["document 1", "kind is missing", "RunnerSource"]);
    refused("kind: RunnerClass\nspec: {}\n", &["document 1", "RunnerClass", "metadata.name is missing"]);
    refused("just text\n", &["document 1", "kind, metadata.name and spec"]);
    refused("kind: RunnerClass\nmetadata: {name: c}\n", &["RunnerClass c", "spec is missing"]);
    let other = format!("apiVersion: stint.dev/v1\n{}", class("{resources: {cpu: '1', memory: 1Gi}}"));
    refused(&other, &["RunnerClass c", "\"stint.dev/v1\"", "stint.dev/v1alpha1"]);
}

#[test]
fn a_name_that_a_cluster_would_not_take_is_refused() {
    let named = |name: &str| {
        class("{resources: {cpu: '1', memory: 1Gi}}").replace("name: c", &format!("name: {name}"))
    };
    for name in ["Build", "my_class", "-x", "x-", "a..b", "'my class'"] {
        refused(&named(name), &["RunnerClass", name.trim_matches('\''), "metadata.name"]);
    }
    for name in ["c", "ubuntu-24.04", "x1"] {
        assert!(parse(&named(name)).is_ok(), "{name}");
    }
}

#[test]
fn a_field_that_does_not_fit_is_named_by_its_path() {
    refused(&class("{maxRuners: 3}"), &["RunnerClass c", "spec.maxRuners", "maxRunners"]);
    refused(&class("{sizes: {big: {cpus: '2'}}}"), &["spec.sizes.big.cpus", "cpu, maxRunners, memory"]);
    refused(&class("{resources: {cpu: 2, memory: 4Gi}}"), &["spec.resources.cpu", "in quotes, as \"2\""]);
    refused(&class("{resources: {cpu: '2'}}"), &["spec.resources.memory is missing"]);
    refused(&class("{maxRunners: many}"), &["spec.maxRunners must be a whole number, and is text"]);
    refused(&class("{maxRunners: -1}"), &["spec.maxRunners", "-1", "at least 0"]);
    refused(&class("{maxAttempts: 21}"), &["spec.maxAttempts", "21", "at most 20"]);
    refused(&class("{labels: gpu}"), &["spec.labels must be a list, and is text"]);
    refused(&class("{labels: [a, '']}"), &["spec.labels[1] is empty"]);
    refused(&class("{places: {order: []}}"), &["spec.places.order is empty"]);
    refused(&class("{imagePullSecrets: [acr]}"), &["spec.imagePullSecrets[0] must be a map of fields"]);
    refused(&class("[]"), &["spec must be a map of fields, and is a list"]);
    refused(
        "kind: RunnerPlace\nmetadata: {name: p}\nspec: {state: Asleep}\n",
        &["spec.state", "\"Asleep\"", "Active or Draining or Paused"],
    );
}

#[test]
fn a_pod_template_is_taken_as_it_is() {
    let (documents, _) = parse(&class("{podTemplate: {spec: {anything: [1, {a: null}]}}}")).unwrap();
    assert!(documents.classes["c"].pod_template.is_some());
}

#[test]
fn an_absent_value_is_the_default() {
    let (documents, _) =
        parse(&class("{image: null, maxRunners: ~, resources: {cpu: '1', memory: 1Gi}}")).unwrap();
    assert_eq!(documents.classes["c"].image, None);
}

#[test]
fn bad_yaml_is_told_with_its_line() {
    refused("kind: RunnerClass\nmetadata: {name: c\nspec: {}\n", &["not usable as YAML", "line"]);
    refused("kind: RunnerClass\n\tmetadata: x\n", &["not usable as YAML", "tab at line"]);
}

#[test]
fn no_error_quotes_a_secret() {
    let secret = |rest: &str| format!("kind: Secret\nmetadata: {{name: s}}\n{rest}\n");
    for text in [
        secret("stringData: {webhookSecret: canary"),
        secret("stringData:\n  webhookSecret: canary\n\t bad: indentation"),
        secret("stringData: {webhookSecret: 'canary', webhookSecret: 'canary'}"),
        secret("data: {webhookSecret: canary!}"),
        secret("stringData: canary"),
        secret("stringData: {webhookSecret: [canary]}"),
    ] {
        let error = error(&text);
        assert!(!error.contains("canary"), "{error}");
    }
    let error = error(&secret("stringData: {appId: 4711}"));
    assert!(error.contains("stringData.appId must be text: write it in quotes"), "{error}");
    assert!(!error.contains("4711"), "{error}");
}

#[test]
fn empty_documents_are_nothing() {
    for text in ["", "---\n", "---\n---\n", "# only a comment\n", "null\n"] {
        let (documents, secrets) = parse(text).unwrap();
        assert_eq!(documents, Documents::default(), "{text:?}");
        assert!(secrets.is_empty());
    }
    let (documents, _) =
        parse(&format!("---\n{}---\n", class("{resources: {cpu: '1', memory: 1Gi}}"))).unwrap();
    assert_eq!(documents.classes.len(), 1);
}

#[test]
fn only_yaml_files_of_the_directory_itself_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("a.yaml", &class("{resources: {cpu: '1', memory: 1Gi}}"));
    write("b.yml", "kind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n");
    write("notes.txt", "kind: nothing of ours");
    write("a.yaml.bak", "{");
    write("noextension", "{");
    std::fs::create_dir(directory.path().join("more")).unwrap();
    write("more/c.yaml", "{");
    let (documents, secrets) = read(directory.path()).unwrap();
    assert_eq!((documents.classes.len(), secrets.len()), (1, 1));
}

#[test]
fn an_error_begins_with_the_file() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.yaml"), "kind: Pod\nmetadata: {name: x}\n").unwrap();
    let error = format!("{:#}", read(directory.path()).unwrap_err());
    assert!(error.starts_with(&format!("{}: ", directory.path().join("a.yaml").display())), "{error}");
}
