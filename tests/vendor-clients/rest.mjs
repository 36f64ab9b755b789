// Calls every route of the emulator with GitHub's own client and holds each answer against GitHub's OpenAPI description.
// Usage: node rest.mjs < {"url", "appId", "privateKey", "installation", "token", "orgHook", "repoHook"}

import { readFileSync } from "node:fs";
import { Octokit } from "@octokit/rest";
import { createAppAuth } from "@octokit/auth-app";
import { Emulator } from "./emulator.mjs";
import { restValidator } from "./schemas.mjs";

const given = JSON.parse(readFileSync(0, "utf8"));
const emulator = new Emulator(given.url);
const validate = restValidator();
const wrong = [];
const covered = new Set();

function check(method, path, status, body) {
  covered.add(`${method} ${path} ${status}`);
  const complaint = validate(method, path, status, body);
  if (complaint) wrong.push(`${method} ${path} ${status}: ${complaint}`);
}

function client(options) {
  const octokit = new Octokit({ baseUrl: given.url, log: { debug() {}, info() {}, warn() {}, error() {} }, ...options });
  // A page reached by its link has a plain address, which is no template to look up.
  const template = (options) => (options.url.startsWith("/") ? options.url : undefined);
  octokit.hook.after("request", (response, options) => {
    if (template(options)) check(options.method, options.url, response.status, response.data);
  });
  octokit.hook.error("request", (error, options) => {
    if (template(options) && error.response) check(options.method, options.url, error.status, error.response.data);
    throw error;
  });
  return octokit;
}

const auth = { appId: given.appId, privateKey: given.privateKey };
const app = client({ authStrategy: createAppAuth, auth });
const installed = client({ authStrategy: createAppAuth, auth: { ...auth, installationId: given.installation } });
const person = client({ auth: given.token });
const nobody = client({});

async function fails(status, call) {
  try {
    await call;
  } catch (error) {
    if (error.status !== status) wrong.push(`expected ${status}, got ${error.status}: ${error.message}`);
    return;
  }
  wrong.push(`expected ${status}, and it succeeded`);
}

function same(what, is, expected) {
  if (JSON.stringify(is) !== JSON.stringify(expected)) wrong.push(`${what}: ${JSON.stringify(is)}, not ${JSON.stringify(expected)}`);
}

const org = { org: "acme" };
const repo = { owner: "acme", repo: "app" };
const labels = ["self-hosted", "linux", "x64", "stint"];
const runner = (name) => ({ name, runner_group_id: 1, labels });

async function theApp() {
  await app.rest.apps.getAuthenticated();
  await app.rest.apps.listInstallations({ per_page: 1 });
  await app.rest.apps.getInstallation({ installation_id: given.installation });
  const { data } = await app.rest.apps.getOrgInstallation(org);
  same("installation", data.id, given.installation);
  await app.rest.apps.getRepoInstallation(repo);
  await app.rest.apps.getWebhookConfigForApp();
  await fails(404, app.rest.apps.getOrgInstallation({ org: "nobody" }));
  await fails(401, client({ auth: "ghs_wrong" }).rest.actions.listSelfHostedRunnersForOrg(org));
  await fails(401, nobody.rest.actions.listSelfHostedRunnersForOrg(org));
  await installed.rest.apps.listReposAccessibleToInstallation();
  await installed.rest.repos.listForOrg(org);
  await installed.rest.rateLimit.get();
  await installed.rest.meta.get();
  await installed.rest.orgs.get(org);
  await installed.rest.repos.get(repo);
}

async function runnersOf(scope, calls) {
  const jit = await calls.generate({ ...scope, ...runner(`${calls.name}-1`) });
  await fails(409, calls.generate({ ...scope, ...runner(`${calls.name}-1`) }));
  await fails(422, calls.generate({ ...scope, ...runner("a/b") }));
  await fails(404, calls.generate({ ...scope, ...runner("x"), runner_group_id: 77 }));
  const id = jit.data.runner.id;
  await calls.list({ ...scope, name: `${calls.name}-1` });
  for (const number of [2, 3]) await calls.generate({ ...scope, ...runner(`${calls.name}-${number}`) });
  const all = await installed.paginate(calls.list, { ...scope, per_page: 1 });
  same(`${calls.name} runners over pages`, all.map((one) => one.name), [1, 2, 3].map((n) => `${calls.name}-${n}`));
  await calls.get({ ...scope, runner_id: id });
  const job = await emulator.queue({ repository: "acme/app", labels, jobName: "busy" });
  const agent = await emulator.agent(jit.data.encoded_jit_config);
  same("the agent's job", agent.message.jobId, job.id);
  const busy = await calls.get({ ...scope, runner_id: id });
  same("busy and online", [busy.data.busy, busy.data.status, busy.data.os], [true, "online", "linux"]);
  await fails(422, calls.remove({ ...scope, runner_id: id }));
  const running = await installed.rest.actions.getJobForWorkflowRun({ ...repo, job_id: job.id });
  same("the job's runner", running.data.runner_name, `${calls.name}-1`);
  await agent.complete("success");
  await fails(404, calls.get({ ...scope, runner_id: id }));
  for (const one of all.slice(1)) await calls.remove({ ...scope, runner_id: one.id });
}

async function runners() {
  const actions = installed.rest.actions;
  await runnersOf(org, {
    name: "org",
    generate: actions.generateRunnerJitconfigForOrg,
    list: actions.listSelfHostedRunnersForOrg,
    get: actions.getSelfHostedRunnerForOrg,
    remove: actions.deleteSelfHostedRunnerFromOrg,
  });
  await runnersOf(repo, {
    name: "repo",
    generate: actions.generateRunnerJitconfigForRepo,
    list: actions.listSelfHostedRunnersForRepo,
    get: actions.getSelfHostedRunnerForRepo,
    remove: actions.deleteSelfHostedRunnerFromRepo,
  });
  const groups = await installed.request("GET /orgs/{org}/actions/runner-groups", org);
  same("the default group", groups.data.runner_groups.map((one) => one.name), ["Default"]);
  await installed.request("GET /orgs/{org}/actions/runner-groups/{runner_group_id}", { ...org, runner_group_id: 1 });
}

async function runs() {
  const actions = installed.rest.actions;
  const first = await emulator.queue({ repository: "acme/app", labels: ["never"], headRepository: "someone/app", event: "pull_request" });
  const run = { ...repo, run_id: first.runId };
  await emulator.queue({ repository: "acme/app", labels: ["never"], runId: first.runId, jobName: "second", waiting: true });
  const queued = await actions.listWorkflowRunsForRepo({ ...repo, status: "queued", per_page: 5 });
  same("queued runs", queued.data.workflow_runs.map((one) => one.id), [first.runId]);
  const fork = await actions.getWorkflowRun(run);
  same("the fork", fork.data.head_repository.full_name, "someone/app");
  await actions.listJobsForWorkflowRun({ ...run, filter: "latest" });
  await fails(403, actions.reRunWorkflow(run));
  await actions.cancelWorkflowRun(run);
  await fails(409, actions.cancelWorkflowRun(run));
  await actions.reRunWorkflow(run);
  await actions.cancelWorkflowRun(run);
  await actions.reRunWorkflowFailedJobs(run);
  await actions.cancelWorkflowRun(run);
  const latest = await actions.listJobsForWorkflowRun({ ...run, filter: "latest" });
  await actions.reRunJobForWorkflowRun({ ...repo, job_id: latest.data.jobs[0].id });
  const attempt = await actions.listJobsForWorkflowRunAttempt({ ...run, attempt_number: 1 });
  same("jobs of the first attempt", attempt.data.jobs.map((one) => one.run_attempt), [1, 1]);
  await fails(404, actions.getWorkflowRun({ ...repo, run_id: 1 }));
  await fails(404, actions.getJobForWorkflowRun({ ...repo, job_id: 1 }));
}

async function commits() {
  const { checks, repos } = installed.rest;
  const job = await emulator.queue({ repository: "acme/app", labels: ["never"] });
  const run = await installed.rest.actions.getWorkflowRun({ ...repo, run_id: job.runId });
  const head_sha = run.data.head_sha;
  const output = { title: "Waits", summary: "for a runner" };
  const made = await checks.create({ ...repo, name: "stint: build", head_sha, external_id: "key", status: "queued", output });
  same("a queued check", [made.data.status, made.data.conclusion, made.data.external_id], ["queued", null, "key"]);
  const one = { ...repo, check_run_id: made.data.id };
  const ended = await checks.update({ ...one, conclusion: "neutral", completed_at: "2026-01-01T00:00:00Z", output });
  same("an ended check", [ended.data.status, ended.data.conclusion, ended.data.name], ["completed", "neutral", "stint: build"]);
  await checks.get(one);
  await checks.create({ ...repo, name: "stint: build", head_sha });
  const latest = await checks.listForRef({ ...repo, ref: head_sha, check_name: "stint: build" });
  same("the latest of a name", latest.data.total_count, 1);
  const every = await installed.paginate(checks.listForRef, { ...repo, ref: head_sha, filter: "all", per_page: 1 });
  same("all of a name", every.length, 2);
  await fails(422, checks.create({ ...repo, name: "x", head_sha: "0".repeat(40) }));
  await fails(422, checks.create({ ...repo, head_sha }));
  await fails(422, checks.create({ ...repo, name: "x", head_sha, status: "completed" }));
  await fails(422, checks.update({ ...one, status: "pending" }));
  await fails(404, checks.update({ ...repo, check_run_id: 1, status: "queued" }));
  await fails(403, person.rest.checks.create({ ...repo, name: "x", head_sha }));
  await person.rest.checks.listForRef({ ...repo, ref: head_sha });

  await emulator.branch({ repository: "acme/app", branch: "release/1.0", protected: true });
  const branch = await repos.getBranch({ ...repo, branch: "release/1.0" });
  same("a protected branch", [branch.data.protected, branch.data.name], [true, "release/1.0"]);
  await fails(404, repos.getBranch({ ...repo, branch: "none" }));
  const pushed = await emulator.queue({ repository: "acme/app", labels: ["never"], headBranch: "release/1.0" });
  const head = (await installed.rest.actions.getWorkflowRun({ ...repo, run_id: pushed.runId })).data.head_sha;
  const old = branch.data.commit.sha;
  for (const [basehead, status] of [[`${old}...${head}`, "ahead"], [`${head}...${old}`, "behind"], [`${head}...${head}`, "identical"], [`${head}...${head_sha}`, "diverged"]]) {
    const compared = await repos.compareCommitsWithBasehead({ ...repo, basehead });
    same(basehead, compared.data.status, status);
  }
  await fails(404, repos.compareCommitsWithBasehead({ ...repo, basehead: `${head}...${"0".repeat(40)}` }));
}

async function deliveries() {
  const list = await app.paginate(app.rest.apps.listWebhookDeliveries, { per_page: 2 });
  if (list.length < 5) wrong.push(`only ${list.length} deliveries`);
  same("every delivery once", new Set(list.map((one) => one.id)).size, list.length);
  const one = { delivery_id: list[0].id };
  await app.rest.apps.getWebhookDelivery(one);
  await app.rest.apps.redeliverWebhookDelivery(one);
  await fails(404, app.rest.apps.getWebhookDelivery({ delivery_id: 1 }));
  await fails(422, app.request("GET /app/hook/deliveries", { status: "nonsense" }));
  await fails(400, app.request("GET /app/hook/deliveries", { cursor: "nonsense" }));
  for (let tries = 0; ; tries++) {
    const { data } = await app.rest.apps.listWebhookDeliveries({ per_page: 100 });
    const again = data.find((other) => other.redelivery && other.guid === list[0].guid);
    if (again) break;
    if (tries === 100) {
      wrong.push("the redelivery is not listed");
      break;
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  for (const [scope, hook_id, calls] of [
    [org, given.orgHook, ["listWebhookDeliveries", "getWebhookDelivery", "redeliverWebhookDelivery", person.rest.orgs]],
    [repo, given.repoHook, ["listWebhookDeliveries", "getWebhookDelivery", "redeliverWebhookDelivery", person.rest.repos]],
  ]) {
    const [listed, get, again, api] = calls;
    await api.listWebhooks(scope);
    const { data } = await api[listed]({ ...scope, hook_id });
    const delivery = { ...scope, hook_id, delivery_id: data[0].id };
    await api[get](delivery);
    await api[again](delivery);
  }
}

// A validator that finds nothing wrong with this would find nothing wrong with anything.
if (!validate("GET", "/orgs/{org}/actions/runners", 200, { total_count: 1, runners: [{ id: "1" }] })) {
  wrong.push("the validator is blind");
}
for (const part of [theApp, runners, runs, commits, deliveries]) await part();
if (wrong.length > 0) {
  console.error(wrong.join("\n"));
  process.exit(1);
}
console.log(`${covered.size} kinds of answers are as GitHub describes them`);
