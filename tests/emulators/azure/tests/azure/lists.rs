//! Lists and their pages.

use emulator_azure::Options;
use reqwest::Method;

use crate::support::{GROUPS, group, options, put, send, start};

#[tokio::test]
async fn pages_are_linked_and_carry_no_instance_view() {
    let azure = start(Options { page_size: 2, ..options() }).await;
    for name in ["a", "b", "c", "d", "e"] {
        put(&azure, name, group("sleeps:1")).await;
    }
    let elsewhere = GROUPS.replace("/rg/", "/other/");
    send(&azure, Method::PUT, &format!("{elsewhere}/f"), Some(group("sleeps:1"))).await;
    let whole = "/subscriptions/SUB/providers/Microsoft.ContainerInstance/containerGroups";
    for (path, expect) in
        [(GROUPS, vec!["a", "b", "c", "d", "e"]), (whole, vec!["f", "a", "b", "c", "d", "e"])]
    {
        let mut names = Vec::new();
        let mut next = path.to_owned();
        while !next.is_empty() {
            let page = send(&azure, Method::GET, &next, None).await.body;
            let groups = page["value"].as_array().unwrap();
            assert!(groups.len() <= 2);
            for group in groups {
                assert!(group["properties"].get("instanceView").is_none());
                assert!(group["properties"]["containers"][0]["properties"].get("instanceView").is_none());
                assert_eq!(group["tags"]["UID"], "uid-1");
                names.push(group["name"].as_str().unwrap().to_owned());
            }
            next = page["nextLink"].as_str().unwrap_or_default().to_owned();
        }
        assert_eq!(names, expect);
    }
}

#[tokio::test]
async fn a_page_does_not_shift_when_a_group_goes() {
    let azure = start(Options { page_size: 2, ..options() }).await;
    for name in ["a", "b", "c"] {
        put(&azure, name, group("sleeps:1")).await;
    }
    let first = send(&azure, Method::GET, GROUPS, None).await.body;
    azure.vanish("b");
    let second = send(&azure, Method::GET, first["nextLink"].as_str().unwrap(), None).await.body;
    assert_eq!(second["value"][0]["name"], "c");
}
