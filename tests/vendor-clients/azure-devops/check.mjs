// Drives the Azure DevOps emulator with Microsoft's own client: it finds addresses and versions by itself, and what it makes of
// the answers is checked. Started by `tests/emulators/azure-devops/tests/devops/vendor.rs`.
// The client has no part for service hooks: `hooks.rs` and `shapes.rs` there check those against Microsoft's documentation.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import devops from "azure-devops-node-api";
import BuildInterfaces from "azure-devops-node-api/interfaces/BuildInterfaces.js";
import TaskAgentInterfaces from "azure-devops-node-api/interfaces/TaskAgentInterfaces.js";

const { BuildStatus, BuildResult, StageUpdateType, TimelineRecordState } = BuildInterfaces;
const { TaskAgentStatus, TaskAgentPoolType, TaskResult } = TaskAgentInterfaces;

const given = JSON.parse(readFileSync(0, "utf8"));
const connect = (pat) => new devops.WebApi(given.organization, devops.getPersonalAccessTokenHandler(pat));
const api = connect(given.pat);
const tasks = await api.getTaskAgentApi();
const builds = await api.getBuildApi();

async function control(method, path, body) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${given.server}/_emulator${path}`, { method, headers, body: body && JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  const text = await answer.text();
  return text ? JSON.parse(text) : undefined;
}

/** Speaks for an agent, which has no public protocol. */
async function agent(name) {
  const basic = `Basic ${Buffer.from(`:${given.pat}`).toString("base64")}`;
  const call = async (method, path, authorization, body) => {
    const headers = { authorization, "content-type": "application/json" };
    const answer = await fetch(`${given.server}/_agent${path}`, { method, headers, body: body && JSON.stringify(body) });
    assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
    const text = await answer.text();
    return text ? JSON.parse(text) : undefined;
  };
  const { agentId, token } = await call("POST", "/agents", basic, { pool: "Default", name, capabilities: { stint: "small" } });
  const bearer = `Bearer ${token}`;
  const { sessionId } = await call("POST", "/sessions", bearer, {});
  const session = `/sessions/${sessionId}`;
  return {
    agentId,
    message: () => call("GET", `${session}/message?wait=10`, bearer),
    complete: (request, result) => call("POST", `${session}/jobs/${request}/complete`, bearer, { result }),
    leave: () => call("DELETE", session, bearer),
  };
}

/** An error of the client, by its status and a part of its message. */
const refused = (promise, statusCode, part) =>
  assert.rejects(promise, (error) => {
    assert.equal(error.statusCode, statusCode, error.message);
    assert.ok(error.message.includes(part), error.message);
    return true;
  });

async function step(name, run) {
  await run();
  console.log(`ok ${name}`);
}

let pool;
let placeholder;

await step("connects, and is refused with a wrong secret", async () => {
  const connected = await api.connect();
  assert.equal(connected.authenticatedUser.providerDisplayName, "controller");
  const stranger = connect("wrong");
  await refused(stranger.connect(), 401, "TF400813");
  const core = await api.getCoreApi();
  const projects = await core.getProjects();
  assert.deepEqual(projects.map((one) => one.name), ["app"]);
  assert.equal((await core.getProject("app")).id, projects[0].id);
});

await step("finds a pool", async () => {
  const found = await tasks.getAgentPools("Default");
  assert.equal(found.length, 1);
  [pool] = found;
  assert.equal(pool.poolType, TaskAgentPoolType.Automation);
  assert.ok(pool.createdOn instanceof Date && !Number.isNaN(pool.createdOn.getTime()));
  assert.equal((await tasks.getAgentPool(pool.id)).name, "Default");
  assert.deepEqual(await tasks.getAgentPools("none"), []);
});

await step("registers, changes and finds a placeholder", async () => {
  const wanted = { name: "placeholder", version: "4.0.0", userCapabilities: { stint: "small" } };
  placeholder = await tasks.addAgent(wanted, pool.id);
  assert.equal(placeholder.status, TaskAgentStatus.Offline);
  await refused(tasks.addAgent(wanted, pool.id), 409, "already in use");
  const updated = await tasks.updateAgent({ id: placeholder.id, enabled: false }, pool.id, placeholder.id);
  assert.deepEqual([updated.enabled, updated.userCapabilities], [false, { stint: "small" }]);
  const replaced = await tasks.replaceAgent({ ...wanted, id: placeholder.id }, pool.id, placeholder.id);
  assert.equal(replaced.enabled, true);
  await tasks.updateAgentUserCapabilities({ stint: "small", more: "1" }, pool.id, placeholder.id);
  const [found] = await tasks.getAgents(pool.id, "placeholder", true, true);
  assert.deepEqual(found.userCapabilities, { stint: "small", more: "1" });
  assert.equal(found.systemCapabilities["Agent.Version"], "4.0.0");
});

await step("reads requests from queued to done", async () => {
  const job = await control("POST", "/jobs", { pool: "Default", demands: ["stint -equals small"] });
  const [queued] = await tasks.getAgentRequestsForAgents(pool.id, undefined, 0);
  assert.equal(queued.requestId, job.requestId);
  assert.deepEqual(queued.matchedAgents.map((one) => [one.name, one.status]), [["placeholder", TaskAgentStatus.Offline]]);
  assert.ok(queued.queueTime instanceof Date && queued.receiveTime === undefined && queued.result === undefined);
  const [top] = await tasks.getAgentRequests(pool.id, 1);
  assert.deepEqual([top.requestId, top.matchedAgents], [job.requestId, undefined]);

  const real = await agent("real");
  assert.equal((await real.message()).requestId, job.requestId);
  const running = await tasks.getAgentRequest(pool.id, job.requestId);
  assert.ok(running.receiveTime instanceof Date);
  assert.deepEqual([running.reservedAgent.name, running.reservedAgent.status], ["real", TaskAgentStatus.Online]);
  assert.equal((await tasks.getAgentRequestsForAgent(pool.id, real.agentId))[0].requestId, job.requestId);
  assert.equal((await tasks.getAgentRequestsForPlan(pool.id, running.planId))[0].requestId, job.requestId);
  const busy = await tasks.getAgent(pool.id, real.agentId, false, true);
  assert.equal(busy.assignedRequest.requestId, job.requestId);
  await refused(tasks.deleteAgent(pool.id, real.agentId), 400, "still running a job");

  await real.complete(job.requestId, "failed");
  await real.leave();
  const ended = await tasks.getAgentRequest(pool.id, job.requestId);
  assert.deepEqual([ended.result, ended.finishTime instanceof Date], [TaskResult.Failed, true]);
  await tasks.deleteAgent(pool.id, real.agentId);
  assert.equal(await tasks.getAgent(pool.id, real.agentId), null);
});

await step("reads builds and their timelines, and tries a stage again", async () => {
  const [{ id }] = await control("GET", "/runs");
  const build = await builds.getBuild("app", id);
  assert.deepEqual([build.status, build.result], [BuildStatus.Completed, BuildResult.Failed]);
  assert.ok(build.startTime instanceof Date && build.finishTime instanceof Date);
  const listed = await builds.getBuilds("app", undefined, undefined, undefined, undefined, undefined, undefined, undefined, BuildStatus.Completed);
  assert.deepEqual(listed.map((one) => one.id), [id]);
  const timeline = await builds.getBuildTimeline("app", id);
  assert.deepEqual(timeline.records.map((one) => [one.type, one.state]), [["Stage", TimelineRecordState.Completed], ["Job", TimelineRecordState.Completed]]);
  assert.equal(timeline.records[1].workerName, "real");

  await builds.updateStage({ state: StageUpdateType.Retry }, id, "__default", "app");
  const again = await builds.getBuildTimeline("app", id, timeline.id);
  assert.deepEqual([again.records[1].attempt, again.records[1].previousAttempts.length], [2, 1]);
  const runs = await api.getPipelinesApi();
  assert.equal((await runs.getRun("app", build.definition.id, id)).id, id);
});

await step("cancels a build", async () => {
  const [{ id }] = await control("GET", "/runs");
  const cancelled = await builds.updateBuild({ status: BuildStatus.Cancelling }, "app", id);
  assert.deepEqual([cancelled.status, cancelled.result], [BuildStatus.Completed, BuildResult.Canceled]);
  await refused(builds.updateBuild({ status: BuildStatus.Cancelling }, "app", id), 400, "has ended");
  assert.equal(await builds.getBuild("app", 1), null);
});

await step("is told of its consumption", async () => {
  await control("POST", "/consumption", { identity: "controller", units: 180 });
  const near = await tasks.getAgentPools("Default");
  assert.deepEqual([near.rateLimit.limit, near.rateLimit.delay], [200, 0]);
  await control("POST", "/consumption", { identity: "controller", units: 400 });
  await assert.rejects(tasks.getAgentPools("Default"), (error) => {
    assert.deepEqual([error.statusCode, error.rateLimit.retryAfter > 0], [429, true]);
    return error.message.includes("TF400733");
  });
  await control("POST", "/clock", { advanceMs: 301_000 });
});

await step("deletes the placeholder", async () => {
  await tasks.deleteAgent(pool.id, placeholder.id);
  assert.deepEqual(await tasks.getAgents(pool.id), []);
});
