// Receives the emulator's webhooks and holds them against GitHub's schemas; then has GitHub's own examples sent.
// Usage: node webhooks.mjs < {"url", "orgWebhook", ...}

import { readFileSync } from "node:fs";
import { Emulator, Receiver } from "./emulator.mjs";
import { examples, webhookValidator } from "./schemas.mjs";

const given = JSON.parse(readFileSync(0, "utf8"));
const emulator = new Emulator(given.url);
const receiver = new Receiver("It's a Secret to Everybody");
const validate = webhookValidator();
const wrong = [];

await receiver.start();
await emulator.control("PUT", "/webhook", { url: receiver.url, secret: receiver.secret });
await receiver.waitFor((one) => one.event === "ping", "the ping");

const ended = (id) => (one) => one.payload.workflow_job?.id === id && one.payload.action === "completed";

// A job of every fate that needs no agent, and one that is run.
const waiting = await emulator.queue({ repository: "acme/app", labels: ["x"], waiting: true });
await emulator.control("POST", `/jobs/${waiting.id}/approve`);
await emulator.control("POST", `/jobs/${waiting.id}/cancel`);
const skipped = await emulator.queue({ repository: "acme/app", labels: ["x"], skipped: true });
const run = await emulator.queue({ repository: "acme/app", labels: ["stint"] });
const agent = await emulator.agent(given.jitConfig);
await agent.complete("failure");
for (const job of [waiting, skipped, run]) await receiver.waitFor(ended(job.id), `the end of job ${job.id}`);

const kinds = new Set();
for (const { event, payload } of receiver.seen) {
  kinds.add([event, payload.action].filter(Boolean).join("."));
  const complaint = validate(event, payload);
  if (complaint) wrong.push(`${event}.${payload.action}: ${complaint}`);
}
for (const kind of ["ping", "workflow_job.queued", "workflow_job.waiting", "workflow_job.in_progress", "workflow_job.completed"]) {
  if (!kinds.has(kind)) wrong.push(`there was no ${kind}`);
}

// The fields of a payload, so that ours lacks none that GitHub's newest example has.
const fields = (payload) => Object.keys(payload.workflow_job).sort().join(" ");
const newest = examples("workflow_job").find((one) => one.action === "queued" && one.workflow_job.workflow_name === "Env Test");
const ours = receiver.seen.find((one) => one.payload.action === "queued");
if (fields(newest) !== fields(ours.payload)) wrong.push(`fields: ${fields(ours.payload)}, not ${fields(newest)}`);

let sent = 0;
for (const event of ["workflow_job", "ping", "installation"]) {
  for (const payload of examples(event)) {
    const before = receiver.seen.length;
    await emulator.control("POST", "/webhooks/raw", { event, payload });
    await receiver.waitFor(() => receiver.seen.length > before, `the example of ${event}`);
    const got = receiver.seen.at(-1).payload;
    if (JSON.stringify(sorted(got)) !== JSON.stringify(sorted(payload))) wrong.push(`an example of ${event} was changed on its way`);
    sent += 1;
  }
}

function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}

if (receiver.bad.length > 0) wrong.push(`bad signatures: ${receiver.bad.join(", ")}`);
receiver.stop();
if (wrong.length > 0) {
  console.error(wrong.join("\n"));
  process.exit(1);
}
console.log(`${receiver.seen.length} webhooks are as GitHub describes them, ${sent} of them its own examples`);
