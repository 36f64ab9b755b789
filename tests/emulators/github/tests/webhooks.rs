//! Webhooks: what is sent, when, and what goes wrong on the way.

#![expect(clippy::unwrap_used, clippy::panic, dead_code, reason = "a test ends at its first surprise")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use aws_lc_rs::hmac;
use emulator_github::{Chaos, HookKind, JobSpec, Options, Timing, WebhookEffect, WebhookRule};
use serde_json::json;
use support::{Receiver, SECRET, SOON, emulator};

async fn quick() -> Options {
    Options {
        timing: Timing { delivery_timeout: Duration::from_millis(300), ..Timing::default() },
        ..Options::default()
    }
}

#[tokio::test]
async fn a_jobs_life_is_told_in_order_and_signed() {
    let (github, client) = emulator(quick().await).await;
    let receiver = Receiver::start().await;
    github.set_webhook(&receiver.url(), SECRET);
    receiver.wait_for(1).await;
    let job = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    let agent = client.connect("one", &["stint"]).await;
    agent.message(5).await.unwrap();
    agent.complete(job, "success").await;
    let seen = receiver.wait_for(4).await;
    assert_eq!(receiver.actions(), ["queued", "in_progress", "completed"]);
    assert_eq!(seen[0].header("x-github-event"), "ping");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    for one in &seen {
        let tag = one.header("x-hub-signature-256").strip_prefix("sha256=").unwrap();
        let tag: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&tag[at * 2..at * 2 + 2], 16).unwrap()).collect();
        hmac::verify(&key, &one.bytes, &tag).unwrap();
        assert_eq!(one.header("x-github-hook-installation-target-type"), "integration");
        assert_eq!(one.header("x-github-hook-installation-target-id"), "1001");
        assert_eq!(one.header("x-github-hook-id"), "1");
        assert!(one.header("user-agent").starts_with("GitHub-Hookshot/"));
    }
    let guids: BTreeSet<&str> = seen.iter().map(|one| one.header("x-github-delivery")).collect();
    assert_eq!(guids.len(), 4);
    let running = &seen[2].body;
    assert_eq!(running["workflow_job"]["runner_name"], "one");
    assert_eq!(running["installation"]["id"], github.installation_id("acme"));
    assert_eq!(running["organization"]["login"], "acme");
    assert!(seen[1].body["workflow_job"]["runner_id"].is_null());
    assert_eq!(seen[3].body["workflow_job"]["conclusion"], "success");
}

#[tokio::test]
async fn approval_skipping_and_cancelling_have_their_own_sequences() {
    let (github, _client) = emulator(quick().await).await;
    let receiver = Receiver::start().await;
    github.set_webhook(&receiver.url(), SECRET);
    let waiting = github.queue_job(JobSpec::new("acme/app", &["stint"]).awaiting_approval()).unwrap();
    receiver.wait_for(3).await;
    github.approve_job(waiting).unwrap();
    receiver.wait_for(4).await;
    github.cancel_job(waiting).unwrap();
    let seen = receiver.wait_for(5).await;
    assert_eq!(receiver.actions(), ["queued", "waiting", "queued", "completed"]);
    let cancelled = &seen[4].body["workflow_job"];
    assert_eq!((&cancelled["runner_id"], &cancelled["conclusion"]), (&json!(0), &json!("cancelled")));
    assert_eq!(cancelled["steps"], json!([]));
    let mut skipped = JobSpec::new("acme/app", &["stint"]);
    skipped.skipped = true;
    github.queue_job(skipped).unwrap();
    let seen = receiver.wait_for(6).await;
    assert_eq!(seen[5].body["action"], "completed");
    assert_eq!(seen[5].body["workflow_job"]["conclusion"], "skipped");
}

#[tokio::test]
async fn deliveries_are_lost_repeated_delayed_and_held_on_demand() {
    let (github, _client) = emulator(quick().await).await;
    let receiver = Receiver::start().await;
    github.set_webhook(&receiver.url(), SECRET);
    receiver.wait_for(1).await;
    github.add_webhook_rule(WebhookRule::on("queued", WebhookEffect::Lose).times(1));
    let lost = github.queue_job(JobSpec::new("acme/app", &["stint"]).named("lost")).unwrap();
    github.add_webhook_rule(WebhookRule::on("queued", WebhookEffect::Duplicate { after_ms: 1 }).times(1));
    github.queue_job(JobSpec::new("acme/app", &["stint"]).named("twice")).unwrap();
    let seen = receiver.wait_for(3).await;
    assert!(seen[1..].iter().all(|one| one.body["workflow_job"]["name"] == "twice"));
    assert_eq!(seen[1].header("x-github-delivery"), seen[2].header("x-github-delivery"));
    assert!(github.deliveries().iter().all(|delivery| delivery.job != Some(lost)));

    github.add_webhook_rule(WebhookRule::on("queued", WebhookEffect::Delay { ms: 150 }).times(1));
    let late = github.queue_job(JobSpec::new("acme/app", &["stint"]).named("late")).unwrap();
    github.cancel_job(late).unwrap();
    let seen = receiver.wait_for(5).await;
    assert_eq!([&seen[3].body["action"], &seen[4].body["action"]], ["completed", "queued"]);

    github.add_webhook_rule(WebhookRule::on("*", WebhookEffect::Hold));
    github.queue_job(JobSpec::new("acme/app", &["stint"]).named("held")).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(receiver.seen().len(), 5);
    github.release_webhooks();
    receiver.wait_for(6).await;
}

#[tokio::test]
async fn a_failed_delivery_is_listed_and_sent_again_under_its_guid() {
    let (github, client) = emulator(quick().await).await;
    let receiver = Receiver::start().await;
    github.set_webhook(&receiver.url(), SECRET);
    receiver.wait_for(1).await;
    github.add_webhook_rule(WebhookRule::on("queued", WebhookEffect::Fail { status_code: 502 }).times(1));
    github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    let path = "/app/hook/deliveries?status=failure";
    let failed = client.as_app("GET", path).await;
    assert_eq!(failed.body.as_array().unwrap().len(), 1, "{failed:?}");
    let (id, guid) = (failed.body[0]["id"].as_u64().unwrap(), failed.body[0]["guid"].as_str().unwrap());
    let answer = client.as_app("POST", &format!("/app/hook/deliveries/{id}/attempts")).await;
    assert_eq!(answer.status, 202);
    let seen = receiver.wait_for(2).await;
    assert_eq!(seen[1].header("x-github-delivery"), guid);
    let again = github
        .wait_until(|handle| Ok(handle.deliveries().into_iter().find(|one| one.redelivery)), SOON)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((again.guid.as_str(), again.status_code), (guid, 200));
    assert_ne!(again.id, id);
}

#[tokio::test]
async fn deliveries_are_paged_by_cursor_and_kept_for_three_days() {
    let (github, client) = emulator(quick().await).await;
    let receiver = Receiver::start().await;
    github.set_webhook(&receiver.url(), SECRET);
    for _ in 0..4 {
        github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    }
    receiver.wait_for(5).await;
    let all = |handle: &emulator_github::GitHubControl| (handle.deliveries().len() == 5).then_some(());
    github.wait_until(|handle| Ok(all(handle)), SOON).await.unwrap().unwrap();
    let (mut path, mut ids) = ("/app/hook/deliveries?per_page=2".to_owned(), Vec::new());
    loop {
        let page = client.as_app("GET", &path).await;
        ids.extend(page.body.as_array().unwrap().iter().map(|one| one["id"].as_u64().unwrap()));
        let link = page.header("link");
        let Some(next) = link.strip_prefix('<').and_then(|rest| rest.split('>').next()) else { break };
        path = next.strip_prefix(github.url()).unwrap().to_owned();
    }
    assert_eq!(ids.len(), 5);
    assert!(ids.is_sorted_by(|a, b| a > b), "newest first: {ids:?}");
    assert_eq!(client.as_app("GET", "/app/hook/deliveries?cursor=nonsense").await.status, 400);
    github.clock().advance(jiff::SignedDuration::from_hours(73));
    assert_eq!(client.as_app("GET", "/app/hook/deliveries").await.body, json!([]));
}

#[tokio::test]
async fn a_receiver_that_is_down_or_slow_is_recorded_and_never_tried_again() {
    let (github, _client) = emulator(quick().await).await;
    let receiver = Receiver::start().await;
    github.set_webhook(&receiver.url(), SECRET);
    receiver.wait_for(1).await;
    receiver.server.shutdown().await;
    github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    let failed = github
        .wait_until(|handle| Ok(handle.deliveries().into_iter().find(|one| one.status_code != 200)), SOON)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(failed.status_code, 502);

    // A socket that accepts and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    github.set_webhook(&format!("http://{}/hook", silent.local_addr().unwrap()), SECRET);
    let slow = github
        .wait_until(|handle| Ok(handle.deliveries().into_iter().find(|one| one.status_code == 504)), SOON)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(slow.status, "timed out");
    let count = github.deliveries().len();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(github.deliveries().len(), count);
}

#[tokio::test]
async fn hooks_of_organizations_and_repositories_hear_their_own_events() {
    let (github, _client) = emulator(quick().await).await;
    let (of_org, of_repo) = (Receiver::start().await, Receiver::start().await);
    github.add_hook(HookKind::Organization("acme".to_owned()), &of_org.url(), "");
    github.add_hook(HookKind::Repository("other/app".to_owned()), &of_repo.url(), SECRET);
    github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    github.queue_job(JobSpec::new("other/app", &["stint"])).unwrap();
    let seen = of_org.wait_for(2).await;
    assert_eq!(seen[1].body["repository"]["full_name"], "acme/app");
    assert_eq!(seen[1].header("x-github-hook-installation-target-type"), "organization");
    assert_eq!(seen[1].header("x-hub-signature-256"), "");
    assert!(seen[1].body.get("installation").is_none());
    let seen = of_repo.wait_for(2).await;
    assert_eq!(seen[1].body["repository"]["full_name"], "other/app");
    assert_eq!((of_org.seen().len(), of_repo.seen().len()), (2, 2));
}

#[tokio::test]
async fn chaos_loses_and_repeats_the_same_deliveries_each_time() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let chaos = Chaos { seed: 42, lose: 0.3, duplicate: 0.2, max_delay_ms: 20, ..Chaos::default() };
        let (github, _client) = emulator(quick().await).await;
        let receiver = Receiver::start().await;
        github.set_webhook(&receiver.url(), SECRET);
        receiver.wait_for(1).await;
        github.set_chaos(chaos);
        for number in 0..100 {
            github.queue_job(JobSpec::new("acme/app", &["stint"]).named(&number.to_string())).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(800)).await;
        let mut names: Vec<String> =
            receiver.seen()[1..].iter().map(|one| one.body["workflow_job"]["name"].to_string()).collect();
        assert!((60..110).contains(&names.len()), "{}", names.len());
        assert!(names.iter().collect::<BTreeSet<_>>().len() < names.len());
        names.sort();
        runs.push(names);
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn any_payload_can_be_sent_with_a_valid_signature() {
    let (github, _client) = emulator(quick().await).await;
    let receiver = Receiver::start().await;
    github.set_webhook(&receiver.url(), SECRET);
    receiver.wait_for(1).await;
    let payload = json!({"action": "created", "anything": [1, 2]});
    github.send_raw("installation", &payload);
    let seen = receiver.wait_for(2).await;
    assert_eq!((&seen[1].body, seen[1].header("x-github-event")), (&payload, "installation"));
}
