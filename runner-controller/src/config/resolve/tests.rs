use runner_core::placement;
use runner_core::reason::Reason;
use rust_decimal::Decimal;

use runner_core::setup::{CustomSize, Deadlines, Need, Size};

use super::*;
use crate::config::DEFAULT_IMAGE;
use crate::config::directory::parse;
use crate::config::origins::Origin;
use crate::config::{Callback, ResolvedPlace};

const TWO_OBJECTS: &str = r#"
kind: RunnerSource
metadata: {name: acme}
spec: {github: {owners: [acme], secretRef: acme-app}}
---
kind: RunnerClass
metadata: {name: stint}
spec: {resources: {cpu: "2", memory: 4Gi}, maxRunners: 20}
"#;

fn installation() -> Installation {
    Installation {
        id: "stint".to_owned(),
        max_runners: 50,
        callback: Some(Callback { url: "https://10.0.0.7".to_owned(), ca_bundle: None }),
        subscription: Some("sub-1".to_owned()),
        resource_group: Some("rg-1".to_owned()),
        region: None,
        ..Installation::default()
    }
}

fn node(name: &str, labels: &[(&str, &str)]) -> VirtualNodeSeen {
    VirtualNodeSeen {
        name: name.to_owned(),
        ready: true,
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        taints: Vec::new(),
    }
}

fn classic(name: &str) -> VirtualNodeSeen {
    node(
        name,
        &[
            ("type", "virtual-kubelet"),
            ("kubernetes.io/role", "agent"),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/hostname", name),
            ("kubernetes.azure.com/managed", "false"),
        ],
    )
}

fn resolved(text: &str, nodes: &[VirtualNodeSeen]) -> Resolved {
    let (documents, _) = parse(text).unwrap();
    resolve(&documents, nodes, &installation())
}

fn source_with(github: &str) -> String {
    format!("kind: RunnerSource\nmetadata: {{name: s}}\nspec: {{github: {{{github}}}}}\n")
}

fn class_with(spec: &str) -> String {
    format!("kind: RunnerClass\nmetadata: {{name: c}}\nspec: {{{spec}}}\n")
}

fn place_with(spec: &str) -> String {
    format!("kind: RunnerPlace\nmetadata: {{name: p}}\nspec: {{{spec}}}\n")
}

/// The only problem, whose message must hold every one of the words: field, value and remedy.
#[track_caller]
fn one_problem(resolved: &Resolved, kind: &str, words: &[&str]) {
    let [Problem { kind: found, message, .. }] = resolved.problems.as_slice() else {
        panic!("one problem expected: {:?}", resolved.problems)
    };
    assert_eq!(*found, kind, "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is missing in: {message}");
    }
}

#[track_caller]
fn only_place(resolved: &Resolved) -> &ResolvedPlace {
    assert_eq!(resolved.problems, []);
    assert_eq!(resolved.places.len(), 1);
    resolved.places.values().next().unwrap()
}

#[test]
fn two_objects_and_a_virtual_node_are_a_whole_set_up() {
    let resolved = resolved(TWO_OBJECTS, &[classic("virtual-node-aci-linux")]);
    assert_eq!(resolved.problems, []);

    let source = &resolved.setup.sources["acme"];
    assert_eq!((source.allow_public, source.owners.as_slice()), (false, &["acme".to_owned()][..]));
    let source = &resolved.sources["acme"];
    assert_eq!(source.api_url, "https://api.github.com");
    assert_eq!(source.runner_group_id, 1);
    assert_eq!((&source.proxy, &source.ca_bundle), (&None, &None));

    let class = &resolved.setup.classes["stint"];
    let size = Size { cpu_millis: 2000, memory_bytes: 4 << 30, max_runners: None };
    assert_eq!(class.sizes, BTreeMap::from([(String::new(), size)]));
    assert_eq!((class.max_runners, class.max_attempts, &class.places), (20, 3, &None));
    assert_eq!(class.deadlines, Deadlines::default());
    assert_eq!(resolved.classes["stint"].image, DEFAULT_IMAGE);

    let place = placement::choose(&resolved.setup, class, |_| Ok(())).unwrap();
    assert_eq!((place.name.as_str(), &place.unready), ("virtual-node-aci-linux", &None));
    assert_eq!(resolved.setup.settings, Settings::default());
}

#[test]
fn every_default_is_told_with_its_origin() {
    let resolved = resolved(TWO_OBJECTS, &[classic("vn")]);
    let from = |kind: &str, field: &str| {
        let one = |origin: &&Origin| origin.kind == kind && origin.field == field;
        resolved.origins.iter().find(one).map(|origin| (origin.value.as_str(), origin.from))
    };
    let check =
        |kind, field, value, origin| assert_eq!(from(kind, field), Some((value, origin)), "{kind} {field}");
    check("Installation", "maxRunners", "50", From::Default);
    check("RunnerSource", "github.owners", "acme", From::Document);
    check("RunnerSource", "github.repositories", "none", From::Default);
    check("RunnerSource", "github.publicRepositories", "Refuse", From::Default);
    check("RunnerSource", "github.report.checkRuns", "true", From::Default);
    check("RunnerSource", "github.report.after", "1m", From::Default);
    check("RunnerClass", "maxRunners", "20", From::Document);
    check("RunnerClass", "maxAttempts", "3", From::Default);
    check("RunnerClass", "deadlines.running", "15m", From::Default);
    check("RunnerPlace", "virtualNode.nodeName", "vn", From::Node);
    check("RunnerPlace", "subscription", "sub-1", From::Installation);
    check("RunnerPlace", "region", "none", From::Default);
    check("RunnerPlace", "callback", "https://10.0.0.7", From::Installation);
    check("RunnerPlace", "state", "Active", From::Default);
}

#[test]
fn what_a_source_cannot_be_is_refused_with_field_value_and_remedy() {
    #[track_caller]
    fn check(github: &str, words: &[&str]) {
        let resolved = resolved(&source_with(github), &[]);
        one_problem(&resolved, "RunnerSource", words);
        assert!(resolved.sources.is_empty() && resolved.setup.sources.is_empty(), "it must not be used");
    }
    check("secretRef: x", &["github.owners", "github.repositories", "name at least one"]);
    check("secretRef: x, repositories: [acme]", &["github.repositories", "\"acme\"", "owner/name"]);
    check("secretRef: x, repositories: [/web]", &["github.repositories", "\"/web\"", "owner/name"]);
    check("secretRef: x, repositories: [a/b/c]", &["github.repositories", "\"a/b/c\"", "owner/name"]);
    check("secretRef: x, owners: [acme/web]", &["github.owners", "\"acme/web\"", "write its name"]);
    check(
        "secretRef: x, owners: [a], apiUrl: ghe.local",
        &["github.apiUrl", "\"ghe.local\"", "https://HOST"],
    );
    check("secretRef: x, owners: [a], proxy: 'socks5://u:pw@h:1'", &["github.proxy", "\"h:1\"", "http://"]);
}

#[test]
fn check_runs_are_shown_after_a_while_unless_a_source_says_otherwise() {
    #[track_caller]
    fn check(report: &str, expect: Option<i64>) {
        let resolved = resolved(&source_with(&format!("owners: [a], secretRef: s{report}")), &[]);
        assert!(resolved.problems.is_empty(), "{:?}", resolved.problems);
        let after = resolved.setup.sources["s"].notice_after.map(|after| after.as_secs());
        assert_eq!(after, expect, "{report}");
    }
    check("", Some(60));
    check(", report: {after: 5m}", Some(300));
    check(", report: {checkRuns: true}", Some(60));
    check(", report: {checkRuns: false, after: 5m}", None);
    let wrong = resolved(&source_with("owners: [a], secretRef: s, report: {after: soon}"), &[]);
    one_problem(&wrong, "RunnerSource", &["github.report.after", "\"soon\"", "90s"]);
}

#[test]
fn a_source_without_anything_needs_github() {
    let documents = Documents {
        sources: BTreeMap::from([("s".to_owned(), RunnerSourceSpec::default())]),
        ..Documents::default()
    };
    one_problem(&resolve(&documents, &[], &installation()), "RunnerSource", &["github is missing"]);
}

#[test]
fn the_password_of_a_proxy_shows_nowhere() {
    let text = source_with("secretRef: x, owners: [a], proxy: 'http://user:canary@proxy:3128'");
    let resolved = resolved(&text, &[]);
    assert_eq!(resolved.sources["s"].proxy.as_deref(), Some("http://user:canary@proxy:3128"));
    assert!(!format!("{:?}", resolved.origins).contains("canary"));
}

#[test]
fn a_secret_without_a_name_is_refused() {
    let spec: RunnerSourceSpec =
        serde_json::from_value(serde_json::json!({"github": {"owners": ["a"], "secretRef": ""}})).unwrap();
    let documents = Documents { sources: BTreeMap::from([("s".to_owned(), spec)]), ..Documents::default() };
    one_problem(
        &resolve(&documents, &[], &installation()),
        "RunnerSource",
        &["github.secretRef", "webhookSecret"],
    );
}

#[test]
fn what_a_class_cannot_be_is_refused_with_field_value_and_remedy() {
    #[track_caller]
    fn check(spec: &str, words: &[&str]) {
        let resolved = resolved(&class_with(spec), &[]);
        one_problem(&resolved, "RunnerClass", words);
        assert!(resolved.classes.is_empty() && resolved.setup.classes.is_empty(), "it must not be used");
    }
    const FINE: &str = "resources: {cpu: '1', memory: 1Gi}";
    check("maxRunners: 1", &["resources", "sizes", "cpu and memory"]);
    check(&format!("{FINE}, sizes: {{s: {{cpu: '1', memory: 1Gi}}}}"), &["resources", "sizes", "not both"]);
    check("resources: {cpu: two, memory: 1Gi}", &["resources.cpu", "\"two\"", "1500m"]);
    check("resources: {cpu: '-1', memory: 1Gi}", &["resources.cpu", "\"-1\"", "1500m"]);
    check("resources: {cpu: '1', memory: 4gi}", &["resources.memory", "\"4gi\"", "4Gi"]);
    check("sizes: {big: {cpu: '0', memory: 1Gi}}", &["sizes.big.cpu", "\"0\"", "1500m"]);
    check("sizes: {big: {cpu: '1', memory: much}}", &["sizes.big.memory", "\"much\"", "4Gi"]);
    check("sizes: {'': {cpu: '1', memory: 1Gi}}", &["sizes", "needs a name"]);
    for field in ["scheduled", "running", "online", "idle"] {
        let path = format!("deadlines.{field}");
        check(&format!("{FINE}, deadlines: {{{field}: soon}}"), &[&path, "\"soon\"", "15m"]);
    }
    check(&format!("{FINE}, deadlines: {{idle: '-5m'}}"), &["deadlines.idle", "\"-5m\"", "15m"]);
    let template = |spec: &str| format!("{FINE}, podTemplate: {{spec: {spec}}}");
    check(&template("{restartPolicy: Always}"), &["podTemplate.spec.restartPolicy", "remove it"]);
    check(&template("{nodeSelector: {a: b}}"), &["podTemplate.spec.nodeSelector", "remove it"]);
    check(&template("{containers: [{name: sidecar}]}"), &["containers[0].name", "runner"]);
}

#[test]
fn a_class_whose_name_is_no_label_is_refused() {
    let name = "c".repeat(64);
    let text = class_with("resources: {cpu: '1', memory: 1Gi}");
    one_problem(
        &resolved(&text.replace("{name: c}", &format!("{{name: {name}}}")), &[]),
        "RunnerClass",
        &["63"],
    );
}

#[test]
fn each_size_has_its_own_resources_and_limit() {
    let spec = "sizes: {small: {cpu: 500m, memory: 1G}, large: {cpu: '8', memory: 32Gi, maxRunners: 2}}";
    let resolved = resolved(&class_with(spec), &[]);
    assert_eq!(resolved.problems, []);
    let sizes = &resolved.setup.classes["c"].sizes;
    assert_eq!(sizes["small"], Size { cpu_millis: 500, memory_bytes: 1_000_000_000, max_runners: None });
    assert_eq!(sizes["large"], Size { cpu_millis: 8000, memory_bytes: 32 << 30, max_runners: Some(2) });
}

#[test]
fn a_bad_document_does_not_keep_the_others_from_being_used() {
    let text = format!("{TWO_OBJECTS}---\n{}", class_with("resources: {cpu: two, memory: 1Gi}"));
    let resolved = resolved(&text, &[classic("vn")]);
    assert_eq!(resolved.problems.len(), 1);
    assert_eq!(resolved.classes.keys().collect::<Vec<_>>(), ["stint"]);
    assert_eq!(resolved.sources.len(), 1);
}

#[test]
fn an_unknown_place_is_named() {
    let text = class_with("resources: {cpu: '1', memory: 1Gi}, places: {order: [vn, elsewhere]}");
    let resolved = resolved(&text, &[classic("vn")]);
    one_problem(&resolved, "RunnerClass", &["places.order", "elsewhere", "RunnerPlace"]);
}

#[test]
fn a_place_with_a_problem_of_its_own_is_not_also_unknown() {
    let class = class_with("resources: {cpu: '1', memory: 1Gi}, places: {order: [p]}");
    let text = format!("{class}---\n{}", place_with("state: Active"));
    one_problem(
        &resolved(&text, &[]),
        "RunnerPlace",
        &["exactly one of virtualNode, containerInstances and nodePool"],
    );
}

#[test]
fn a_virtual_node_becomes_a_place_that_only_its_own_labels_select() {
    let resolved = resolved("", &[classic("vn")]);
    let place = only_place(&resolved);
    assert_eq!(
        (place.place.name.as_str(), place.place.kind),
        ("vn", runner_core::setup::PlaceKind::VirtualNode)
    );
    assert!(!place.v2);
    let selector: Vec<String> =
        place.node_selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        selector,
        [
            "kubernetes.io/hostname=vn",
            "kubernetes.io/os=linux",
            "kubernetes.io/role=agent",
            "type=virtual-kubelet",
        ]
    );
}

#[test]
fn a_node_of_virtual_nodes_v2_is_told_from_a_classic_one() {
    let labels = [("virtualization", "virtualnode2"), ("kubernetes.io/os", "linux")];
    let resolved_one = resolved("", &[node("v2", &labels)]);
    assert!(only_place(&resolved_one).v2);

    let own_selector = place_with("virtualNode: {nodeSelector: {pool: ci}}");
    let resolved_one = resolved(&own_selector, &[node("v2", &labels)]);
    let place = only_place(&resolved_one);
    assert!(place.v2, "whatever selects it, its sidecar would keep the meter running");
    assert_eq!(place.node_selector, BTreeMap::from([("pool".to_owned(), "ci".to_owned())]));
}

#[test]
fn a_selector_that_any_node_satisfies_is_refused() {
    let empty = place_with("virtualNode: {nodeSelector: {}}");
    one_problem(&resolved(&empty, &[classic("vn")]), "RunnerPlace", &["virtualNode.nodeSelector is empty"]);
    let unlabelled = node("bare", &[("team", "build")]);
    one_problem(
        &resolved("", &[unlabelled]),
        "RunnerPlace",
        &["virtualNode.nodeSelector", "node bare", "labels"],
    );
}

#[test]
fn several_virtual_nodes_without_an_order_are_ambiguous() {
    let resolved = resolved(TWO_OBJECTS, &[classic("vn-a"), classic("vn-b")]);
    assert_eq!(resolved.problems, []);
    let refused =
        placement::choose(&resolved.setup, &resolved.setup.classes["stint"], |_| Ok(())).unwrap_err();
    let places = vec!["vn-a".to_owned(), "vn-b".to_owned()];
    assert_eq!(refused, Reason::PlaceAmbiguous { class: "stint".to_owned(), places });
}

#[test]
fn a_place_that_names_no_node_takes_the_only_one_and_refuses_to_guess_among_several() {
    let text = place_with("virtualNode: {}");
    let alone = resolved(&text, &[classic("vn")]);
    let place = only_place(&alone);
    assert_eq!(place.place.name, "p", "the node does not become a second place");
    assert_eq!(place.node_selector["kubernetes.io/hostname"], "vn");

    let several = resolved(&text, &[classic("vn-a"), classic("vn-b")]);
    one_problem(&several, "RunnerPlace", &["virtualNode.nodeName", "several", "vn-a, vn-b"]);
}

#[test]
fn a_place_that_names_its_node_leaves_the_others_to_themselves() {
    let resolved =
        resolved(&place_with("virtualNode: {nodeName: vn-b}"), &[classic("vn-a"), classic("vn-b")]);
    assert_eq!(resolved.problems, []);
    assert_eq!(resolved.places.keys().collect::<Vec<_>>(), ["p", "vn-a"]);
    assert_eq!(resolved.places["p"].node_selector["kubernetes.io/hostname"], "vn-b");
}

#[test]
fn why_nothing_can_start_at_a_place_is_said() {
    #[track_caller]
    fn check(spec: &str, nodes: &[VirtualNodeSeen], installation: &Installation, expect: Option<&str>) {
        let (documents, _) = parse(&place_with(spec)).unwrap();
        let resolved = resolve(&documents, nodes, installation);
        let unready = only_place(&resolved).place.unready.clone();
        match expect {
            Some(words) => assert!(unready.as_deref().is_some_and(|why| why.contains(words)), "{unready:?}"),
            None => assert_eq!(unready, None),
        }
    }
    let asleep = VirtualNodeSeen { ready: false, ..classic("vn") };
    let bare = Installation { id: "stint".to_owned(), max_runners: 50, ..Installation::default() };
    let subscribed = Installation { subscription: Some("sub-1".to_owned()), ..bare.clone() };
    check("virtualNode: {}", &[classic("vn")], &installation(), None);
    check("virtualNode: {}", &[], &installation(), Some("does not exist"));
    check("virtualNode: {nodeName: gone}", &[], &installation(), Some("does not exist"));
    check("virtualNode: {}", &[asleep], &installation(), Some("node vn is not ready"));
    check("virtualNode: {}", &[classic("vn")], &bare, Some("--azure-subscription"));
    check("virtualNode: {}", &[classic("vn")], &subscribed, Some("--azure-resource-group"));
    check("containerInstances: {}", &[], &installation(), Some("--azure-region"));
    check("containerInstances: {}, region: westeurope", &[], &installation(), None);
}

#[test]
fn a_node_pool_needs_nothing_of_azure_and_bursts_as_it_scales() {
    #[track_caller]
    fn check(more: &str, burst_after: i64) {
        let spec = format!("nodePool: {{nodeSelector: {{pool: ci}}{more}}}");
        let (documents, _) = parse(&place_with(&spec)).unwrap();
        let bare = Installation { id: "stint".to_owned(), max_runners: 50, ..Installation::default() };
        let resolved = resolve(&documents, &[], &bare);
        assert_eq!(resolved.problems, []);
        let place = only_place(&resolved);
        assert_eq!(place.place.kind, runner_core::setup::PlaceKind::NodePool);
        assert_eq!(place.place.unready, None);
        assert_eq!(place.place.burst_after, SignedDuration::from_secs(burst_after), "{more}");
        assert_eq!(place.node_selector, BTreeMap::from([("pool".to_owned(), "ci".to_owned())]));
        assert_eq!((place.subscription.as_str(), place.resource_group.as_str()), ("", ""));
    }
    check("", 0);
    check(", scaling: Fixed", 0);
    check(", scaling: Autoscaled", 120);
    check(", scaling: Autoscaled, burstAfter: 0s", 0);
    check(", burstAfter: 45s", 45);
    // What the installation has is not the pool's.
    let resolved_one = resolved(&place_with("nodePool: {nodeSelector: {pool: ci}}"), &[]);
    assert_eq!(only_place(&resolved_one).subscription, "");
    assert_eq!(only_place(&resolved_one).callback, installation().callback);
}

#[test]
fn a_place_falls_back_on_the_installation() {
    let resolved_one = resolved(&place_with("virtualNode: {}"), &[classic("vn")]);
    let place = only_place(&resolved_one);
    assert_eq!((place.subscription.as_str(), place.resource_group.as_str()), ("sub-1", "rg-1"));
    assert_eq!(place.callback, installation().callback);

    let own = "virtualNode: {}, subscription: sub-2, resourceGroup: rg-2, region: eastus, \
               callback: {url: 'https://10.9.9.9', caBundle: PEM}";
    let resolved_one = resolved(&place_with(own), &[classic("vn")]);
    let place = only_place(&resolved_one);
    assert_eq!((place.subscription.as_str(), place.resource_group.as_str()), ("sub-2", "rg-2"));
    assert_eq!(place.region, "eastus");
    assert_eq!(place.callback.as_ref().map(|callback| callback.url.as_str()), Some("https://10.9.9.9"));
}

#[test]
fn what_a_place_cannot_be_is_refused_with_field_value_and_remedy() {
    #[track_caller]
    fn check(spec: &str, words: &[&str]) {
        let resolved = resolved(&place_with(spec), &[]);
        one_problem(&resolved, "RunnerPlace", words);
        assert!(resolved.places.is_empty() && resolved.setup.places.is_empty(), "it must not be used");
    }
    const FINE: &str = "containerInstances: {}, region: westeurope";
    const POOL: &str = "nodePool: {nodeSelector: {pool: ci}";
    check(&format!("virtualNode: {{}}, {POOL}}}"), &["exactly one of virtualNode"]);
    check("nodePool: {nodeSelector: {}}", &["nodePool.nodeSelector", "only the pool's"]);
    check(&format!("{POOL}, burstAfter: soon}}"), &["nodePool.burstAfter", "soon"]);
    check(&format!("{POOL}}}, region: westeurope"), &["region", "nodePool", "remove it"]);
    check(
        "virtualNode: {}, containerInstances: {}",
        &["exactly one of virtualNode, containerInstances and nodePool"],
    );
    let price = |price: &str| format!("{FINE}, price: {{{price}}}");
    check(&price("vcpuHour: free, gbHour: '1'"), &["price.vcpuHour", "\"free\"", "0.0405"]);
    check(&price("vcpuHour: '1', gbHour: '-1'"), &["price.gbHour", "\"-1\"", "0.0405"]);
    check(&price("vcpuHour: '1', gbHour: '1', currency: euro"), &["price.currency", "\"euro\"", "ISO 4217"]);
    check(
        &format!("{FINE}, quota: {{changes: [{{count: 1, per: soon}}]}}"),
        &["quota.changes[0].per", "soon"],
    );
    check(&format!("{POOL}}}, quota: {{groups: 1}}"), &["quota", "nodePool", "remove it"]);
    check(
        &format!("{FINE}, callback: {{url: 'stint:8080'}}"),
        &["callback.url", "\"stint:8080\"", "https://HOST"],
    );
}

#[test]
fn a_class_may_let_jobs_ask_for_sizes_within_bounds() {
    let with =
        |bounds: &str| class_with(&format!("resources: {{cpu: '2', memory: 4Gi}}, customSize: {bounds}"));
    let fine = resolved(&with("{cpu: {min: 500m, max: '8'}, memory: {min: 1Gi, max: 32Gi}}"), &[]);
    let expect = CustomSize { cpu_millis: (500, 8000), memory_bytes: (1 << 30, 32 << 30) };
    assert_eq!(fine.setup.classes["c"].custom_size, Some(expect));
    let check = |bounds: &str, words: &[&str]| {
        let resolved = resolved(&with(bounds), &[]);
        one_problem(&resolved, "RunnerClass", words);
        assert!(resolved.setup.classes.is_empty(), "it must not be used");
    };
    check(
        "{cpu: {min: '9', max: '8'}, memory: {min: 1Gi, max: 32Gi}}",
        &["customSize.cpu", "min 9 is above max 8"],
    );
    check("{cpu: {min: '1', max: '8'}, memory: {min: 2Gi, max: 1Gi}}", &["customSize.memory", "above"]);
    check("{cpu: {min: '1', max: many}, memory: {min: 1Gi, max: 2Gi}}", &["customSize.cpu.max", "many"]);
}

#[test]
fn a_class_that_no_place_can_serve_is_named() {
    let needy = "resources: {cpu: '2', memory: 4Gi}, needs: [Docker]";
    let volume = "podTemplate: {spec: {volumes: [{name: c, persistentVolumeClaim: {claimName: c}}]}}";
    let pool =
        "---\nkind: RunnerPlace\nmetadata: {name: vms}\nspec: {nodePool: {nodeSelector: {pool: ci}}}\n";
    let all = resolved(&class_with(needy), &[classic("vn")]);
    one_problem(&all, "RunnerClass", &["needs: Docker", "node pool", "places.order"]);
    let both = format!("{}{pool}", class_with(&format!("{needy}, places: {{order: [vn, vms]}}")));
    assert_eq!(resolved(&both, &[classic("vn")]).problems, []);
    let implied =
        resolved(&class_with(&format!("resources: {{cpu: '2', memory: 4Gi}}, {volume}")), &[classic("vn")]);
    one_problem(&implied, "RunnerClass", &["needs: PersistentVolumes"]);
    assert_eq!(implied.setup.classes["c"].needs, [Need::PersistentVolumes].into());
}

#[test]
fn places_of_a_region_share_what_they_say_of_its_quota() {
    let place =
        |name: &str, spec: &str| format!("kind: RunnerPlace\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n");
    let places = [
        place(
            "a",
            "virtualNode: {nodeName: vn}, region: West, quota: {groups: 50, changes: [{count: 7, per: 10s}]}",
        ),
        place("b", "containerInstances: {}, region: west, quota: {groups: 40, cores: 9}"),
        place("c", "containerInstances: {}, region: east"),
    ];
    let resolved = resolved(&places.join("---\n"), &[classic("vn")]);
    assert_eq!(resolved.problems, []);
    let shown: Vec<String> = resolved
        .setup
        .quotas
        .iter()
        .map(|(key, quota)| {
            let rates = quota.changes.iter().map(|rate| format!("{}/{:#}", rate.count, rate.per));
            format!("{key} {:?} {:?} {}", quota.groups, quota.cores, rates.collect::<Vec<_>>().join(" "))
        })
        .collect();
    assert_eq!(shown, ["sub-1/east None None 100/5m 300/1h", "sub-1/west Some(40) Some(9) 7/10s"]);
    let of = |name: &str| resolved.setup.places.get(name).and_then(|place| place.quota.clone());
    assert_eq!((of("a"), of("c")), (Some("sub-1/west".to_owned()), Some("sub-1/east".to_owned())));
}

#[test]
fn prices_are_decimal_and_default_to_azures() {
    let own = "virtualNode: {}, price: {currency: EUR, vcpuHour: '0.0412', gbHour: '0.0045'}";
    let resolved_one = resolved(&place_with(own), &[]);
    let price = &only_place(&resolved_one).place.price;
    assert_eq!((price.currency.as_str(), price.vcpu_hour), ("EUR", Decimal::new(412, 4)));
    let resolved_one = resolved(&place_with("virtualNode: {}"), &[]);
    assert_eq!(only_place(&resolved_one).place.price, runner_core::setup::Price::default());
}

#[test]
fn states_are_those_of_the_planner() {
    use runner_core::setup::PlaceState;
    for (word, expect) in
        [("Active", PlaceState::Active), ("Draining", PlaceState::Draining), ("Paused", PlaceState::Paused)]
    {
        let resolved = resolved(&place_with(&format!("virtualNode: {{}}, state: {word}")), &[]);
        assert_eq!(only_place(&resolved).place.state, expect);
    }
}

#[test]
fn a_budget_in_a_currency_that_no_billed_place_has_is_refused_with_the_remedy() {
    let budget = |spec: &str| format!("kind: Budget\nmetadata: {{name: b}}\nspec: {{{spec}}}\n");
    let dollars = "amount: '10', per: Day";
    let euros = "virtualNode: {}, price: {currency: EUR, vcpuHour: '0.04', gbHour: '0.004'}";
    let with =
        |place: &str, spec: &str| resolved(&format!("{}---\n{}", place_with(place), budget(spec)), &[]);
    let words = ["currency", "USD", "EUR", "price.currency"];
    one_problem(&with(euros, dollars), "Budget", &words);
    assert!(with(euros, dollars).setup.budgets.is_empty());
    for (place, spec) in [
        (euros, "amount: '10', per: Day, currency: EUR"),
        ("virtualNode: {}", dollars),
        // Nothing that it matches bills, as far as is known.
        (euros, "amount: '10', per: Day, match: {places: [other]}"),
        ("nodePool: {nodeSelector: {pool: ci}}", dollars),
    ] {
        let resolved = with(place, spec);
        assert_eq!(resolved.problems, [], "{place} {spec}");
        assert!(resolved.setup.budgets.contains_key("b"), "{place} {spec}");
    }
}

#[test]
fn a_class_says_how_long_its_runners_are_expected_to_take() {
    let class = |field: &str| {
        let text = format!(
            "kind: RunnerClass\nmetadata: {{name: c}}\nspec: {{resources: {{cpu: '1', memory: 1Gi}}{field}}}\n"
        );
        resolved(&text, &[])
    };
    let expected = |field: &str| class(field).setup.classes["c"].expected_duration;
    assert_eq!(expected(""), None);
    assert_eq!(expected(", expectedDuration: 15m"), Some(SignedDuration::from_mins(15)));
    one_problem(&class(", expectedDuration: soon"), "RunnerClass", &["expectedDuration", "\"soon\"", "15m"]);
}
